#include "client/sample_lines.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "client/engine_gap.h"
#include "client/figures.h"
#include "client/jsonl.h"
#include "client/output.h"

namespace lbrd::client {

SampleLines::~SampleLines() {
  if (thread_.joinable()) thread_.join();
  if (file_ != nullptr) CloseOutput(file_, path_).IgnoreError();
}

absl::Status SampleLines::Open() {
  absl::StatusOr<FILE*> file = OpenOutput(path_);
  if (!file.ok()) return file.status();
  file_ = *file;
  return absl::OkStatus();
}

absl::Status SampleLines::Run(const Client& client, const v1::Session& session,
                              const v1::SourceDetail& detail) {
  JsonlWriter writer(session);
  absl::Status written;
  uint64_t dropped = 0;
  std::string text;
  const auto take = [&](const v1::StreamSamplesResponse& message) {
    text.clear();
    written = writer.Append(message, text);
    for (const v1::StreamGap& gap : message.gaps()) {
      if (!tell_gaps_) break;
      std::string line = EngineGapText(gap.why(), gap.from_ns(), gap.to_ns());
      if (gap.samples_not_received() != 0) {
        absl::StrAppend(&line, "; ", FormatCountOf(gap.samples_not_received(), "sample"),
                        " of before did not arrive");
      }
      std::fprintf(stderr, "lbrctl: %s\n", line.c_str());
    }
    dropped = message.dropped() + message.missing();
    if (written.ok() && std::fwrite(text.data(), 1, text.size(), file_) != text.size()) {
      written = absl::UnavailableError(absl::StrCat("cannot write ", path_));
    }
    return written.ok();
  };
  const absl::Status streamed = client.StreamSamples(session.name(), take, detail);
  if (!written.ok()) return written;
  if (!streamed.ok()) return streamed;
  if (dropped != 0) {
    return absl::DataLossError(absl::StrCat(
        path_, " lacks ", FormatCountOf(dropped, "sample"),
        ": it was written too slowly, or its connection was broken for too long; lower "
        "-F, or record to a faster disk"));
  }
  return absl::OkStatus();
}

void SampleLines::Start(const Client& client, const v1::Session& session,
                        const v1::SourceDetail& detail) {
  thread_ = std::thread([this, &client, session, detail] {
    status_ = Run(client, session, detail);
    if (!status_.ok()) failed_ = true;
  });
}

absl::Status SampleLines::Finish() {
  if (thread_.joinable()) thread_.join();
  const absl::Status closed = CloseOutput(std::exchange(file_, nullptr), path_);
  return status_.ok() ? closed : status_;
}

}  // namespace lbrd::client
