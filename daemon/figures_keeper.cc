#include "daemon/figures_keeper.h"

#include <pthread.h>

#include "absl/time/clock.h"

namespace lbrd::daemon {

FiguresKeeper::FiguresKeeper(SessionTable* sessions)
    : sessions_(*sessions), thread_([this] {
        pthread_setname_np(pthread_self(), "lbrd-journal");
        uint64_t seen = 0;
        while (!stop_ && !sessions_.closing()) {
          if (KeepAll()) {
            absl::SleepFor(kPeriod);
          } else {
            seen = sessions_.AwaitChange(seen, absl::Seconds(1));
          }
        }
      }) {}

FiguresKeeper::~FiguresKeeper() {
  stop_ = true;
  thread_.join();
}

bool FiguresKeeper::KeepAll() {
  bool any = false;
  for (const std::shared_ptr<Session>& session : sessions_.List("")) {
    if (session->journal_id() == 0 || session->state() != v1::SESSION_STATE_RUNNING) continue;
    session->KeepFigures();
    any = true;
  }
  return any;
}

}  // namespace lbrd::daemon
