#!/bin/sh
# Installs workflow engines from PyPI into a folder of their own, for tests of what they ask of this program.
#   scripts/clients.sh FOLDER
set -eu
python3 -m venv "$1"
"$1/bin/pip" -q --disable-pip-version-check install cwltool spython "snakemake<8" "pulp<2.8"
