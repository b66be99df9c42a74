/* Millrace: LLM inference as GStreamer pipelines. The one header that applications include. */
#pragma once

#include <millrace/millrace-error.h>
#include <millrace/millrace-generator.h>
#include <millrace/millrace-meta.h>
#include <millrace/millrace-model.h>
#include <millrace/millrace-request.h>
#include <millrace/millrace-stream.h>
