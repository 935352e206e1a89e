#!/bin/sh
# Installs workflow engines and validators from PyPI into folders of their own, for tests of what they ask of this program.
#   scripts/clients.sh FOLDER
set -eu
python3 -m venv "$1"
"$1/bin/pip" -q --disable-pip-version-check install cwltool spython "snakemake<8" "pulp<2.8"
# Validators of bills of materials, apart: they want other versions of the same packages.
python3 -m venv "$1/validators"
"$1/validators/bin/pip" -q --disable-pip-version-check install spdx-tools "cyclonedx-python-lib[json-validation]"
