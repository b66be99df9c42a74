// One writer for each dialect; ReplyWriter::create () chooses.
#pragma once

#include "engine/api/reply_writer.hpp"

namespace millrace
{

using WriterMaker = std::unique_ptr<ReplyWriter> (const ApiRequest &request, const ReplyIdentity &identity);

WriterMaker make_chat_writer;
WriterMaker make_completion_writer;
WriterMaker make_embedding_writer;
WriterMaker make_responses_writer;
WriterMaker make_messages_writer;
WriterMaker make_ollama_writer;

} // namespace millrace
