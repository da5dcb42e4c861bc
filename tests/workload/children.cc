#include "tests/workload/children.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "tests/workload/cpu_quota.h"

// C linkage: the name in a profile is the plain name, whatever the demangler.
extern "C" DEMO_OWN_FRAME uint64_t short_lived_child_work(demo::CpuQuota* quota) {
  uint64_t x = 1;
  while (uint64_t n = quota->Take()) {
    for (; n > 0; --n) x = x * 6364136223846793005u + 1442695040888963407u;
  }
  return x;
}

namespace demo {

void Children::Start() {
  if (alive_.size() >= kMaxAlive) return;
  // The parent's blocked signals must not be the child's.
  posix_spawnattr_t attributes;
  if (posix_spawnattr_init(&attributes) != 0) return;
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  char name[] = "demo-child";
  char flag[] = "--child";
  char* arguments[] = {name, flag, nullptr};
  pid_t pid = 0;
  if (posix_spawn(&pid, "/proc/self/exe", nullptr, &attributes, arguments, environ) == 0) {
    alive_.push_back(pid);
    ++started_;
  }
  posix_spawnattr_destroy(&attributes);
}

bool Children::ReapOne(pid_t pid, int options) {
  rusage usage{};
  pid_t got = 0;
  do {
    got = wait4(pid, nullptr, options, &usage);
  } while (got < 0 && errno == EINTR);
  if (got == 0) return false;
  if (got == pid) {
    for (const timeval& t : {usage.ru_utime, usage.ru_stime}) {
      cpu_ns_ += int64_t{t.tv_sec} * 1'000'000'000 + int64_t{t.tv_usec} * 1000;
    }
  }
  return true;
}

void Children::Reap() {
  std::erase_if(alive_, [this](pid_t pid) { return ReapOne(pid, WNOHANG); });
}

void Children::ReapAll() {
  std::erase_if(alive_, [this](pid_t pid) { return ReapOne(pid, 0); });
}

int ChildMain() {
  prctl(PR_SET_NAME, "demo-child");
  CpuQuota quota;
  quota.Grant(kChildWorkMs * 1'000'000);
  volatile uint64_t result = short_lived_child_work(&quota);
  return result == 0 ? 1 : 0;
}

}  // namespace demo
