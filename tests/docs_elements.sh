#!/bin/bash
# labels: docs
# docs/elements/*.txt is what gst-inspect-1.0 says.
exec scripts/element-docs --check
