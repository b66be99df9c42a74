#!/bin/bash
# labels: docs
# Every source is laid out by clang-format.
exec scripts/format --check
