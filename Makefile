PREFIX ?= /usr/local

.PHONY: build demo test fuzz bench peers install format lint clean

build:
	sh scripts/packages.sh build
	sh scripts/build.sh

demo:
	sh scripts/packages.sh demo
	sh scripts/build.sh
	sh scripts/demo.sh

test:
	sh scripts/packages.sh test
	sh scripts/build.sh tests
	sh scripts/test.sh

fuzz:
	sh scripts/packages.sh test
	sh scripts/fuzz.sh $(SECONDS)

bench:
	sh scripts/packages.sh bench
	sh scripts/build.sh
	sh scripts/bench.sh

peers:
	sh scripts/packages.sh peers
	sh scripts/peers.sh

install: build
	sh scripts/install.sh $(PREFIX)

format:
	swift format format -i -r -p Sources Tests Package.swift

lint:
	swift format lint --strict -r -p Sources Tests Package.swift
	@# What others build upon is documented to the last member.
	mkdir -p .build
	sed '/AllPublicDeclarationsHaveDocumentation/s/false/true/' .swift-format > .build/library.swift-format
	swift format lint --strict --configuration .build/library.swift-format -r -p Sources/SIF Sources/SquashFS Sources/BlockIO Sources/Compression

clean:
	rm -rf .build
