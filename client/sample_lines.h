// A session's samples, streamed to a file as JSON lines while it runs.
//
// Thread rules: one owner; Start() begins a thread of its own, which Finish() joins.
#pragma once

#include <atomic>
#include <cstdio>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "client/client.h"

namespace lbrd::client {

class SampleLines {
 public:
  // "-": standard output.
  // `tell_gaps`: those that the daemon's engine left when it died, on standard error too.
  explicit SampleLines(std::string path, bool tell_gaps = false)
      : path_(std::move(path)), tell_gaps_(tell_gaps) {}
  ~SampleLines();

  absl::Status Open();
  void Start(const Client& client, const v1::Session& session, const v1::SourceDetail& detail);
  // Waits for the session's end; says whether all was written. Samples that the stream lost because
  // it was read too slowly are an error too: a file that looks whole must be.
  absl::Status Finish();
  // Ended early: nothing is written any more.
  bool failed() const { return failed_; }

 private:
  absl::Status Run(const Client& client, const v1::Session& session,
                   const v1::SourceDetail& detail);
  const std::string path_;
  const bool tell_gaps_;
  FILE* file_ = nullptr;
  std::atomic<bool> failed_ = false;
  absl::Status status_;  // the thread's, until joined
  std::thread thread_;
};

}  // namespace lbrd::client
