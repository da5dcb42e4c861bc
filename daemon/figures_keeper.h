// Writes what sessions count into the journal (daemon/session_journal.h), every kPeriod while any
// of them runs. An engine that is killed has counted more than the next one knows by so much.
//
// Thread rules: a thread of its own, `lbrd-journal`, from the constructor to the destructor, which
// waits for it: at most a second, or less once the sessions are closing.
#pragma once

#include <atomic>
#include <thread>

#include "absl/time/time.h"
#include "daemon/sample_share.h"
#include "daemon/session_table.h"

namespace lbrd::daemon {

class FiguresKeeper {
 public:
  static constexpr absl::Duration kPeriod = kLongRound;  // nothing new is counted in between

  // Borrows it.
  explicit FiguresKeeper(SessionTable* sessions);
  FiguresKeeper(const FiguresKeeper&) = delete;
  FiguresKeeper& operator=(const FiguresKeeper&) = delete;
  ~FiguresKeeper();

 private:
  // Whether any session runs that is kept.
  bool KeepAll();

  SessionTable& sessions_;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

}  // namespace lbrd::daemon
