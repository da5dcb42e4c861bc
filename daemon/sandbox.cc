#include "daemon/sandbox.h"

#include <linux/perf_event.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <memory>

#include "daemon/privileges.h"

namespace lbrd::daemon {
namespace {

// As the engine was seen to make them (strace of the tests), with their older and newer forms. Not
// among them: to execute, trace or look into other processes, make sockets that reach anywhere,
// mount, or change who it is.
constexpr const char* kAllowed[] = {
    // Files: the user's rights decide which.
    "access", "close", "close_range", "creat", "dup", "dup2", "dup3", "faccessat", "faccessat2",
    "fadvise64", "fallocate", "fchmod", "fchmodat", "chmod", "fcntl", "fdatasync", "flock", "fstat",
    "fstatfs", "fsync", "ftruncate", "getcwd", "getdents", "getdents64", "lseek", "lstat", "mkdir",
    "mkdirat", "newfstatat", "open", "openat", "openat2", "poll", "ppoll", "pread64", "preadv",
    "preadv2", "pwrite64", "pwritev", "read", "readlink", "readlinkat", "readv", "rename",
    "renameat", "renameat2", "rmdir", "select", "pselect6", "stat", "statfs", "statx", "umask",
    "unlink", "unlinkat", "write", "writev", "fchown", "utimensat",
    // Waiting.
    "clock_getres", "clock_gettime", "clock_nanosleep", "epoll_create", "epoll_create1",
    "epoll_ctl", "epoll_pwait", "epoll_pwait2", "epoll_wait", "eventfd", "eventfd2", "futex",
    "futex_waitv", "gettimeofday", "nanosleep", "pause", "pidfd_open", "pipe", "pipe2",
    "restart_syscall", "sched_yield", "time", "timerfd_create", "timerfd_gettime",
    "timerfd_settime",
    // Connections that were made by others.
    "accept", "accept4", "getpeername", "getsockname", "getsockopt", "listen", "recvfrom",
    "recvmmsg", "recvmsg", "sendmmsg", "sendmsg", "sendto", "setsockopt", "shutdown", "socketpair",
    // Memory.
    "brk", "madvise", "membarrier", "mincore", "mlock", "mremap", "msync", "munlock", "munmap",
    // Itself and its threads.
    "arch_prctl", "capget", "exit", "exit_group", "get_robust_list", "getcpu", "getegid", "geteuid",
    "getgid", "getgroups", "getpgid", "getpgrp", "getpid", "getppid", "getpriority", "getrandom",
    "getresgid", "getresuid", "getrlimit", "getrusage", "getsid", "gettid", "getuid", "rseq",
    "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn",
    "rt_sigsuspend", "rt_sigtimedwait", "sched_get_priority_max", "sched_get_priority_min",
    "sched_getaffinity", "sched_getparam", "sched_getscheduler", "sched_setaffinity",
    "set_robust_list", "set_tid_address", "sigaltstack", "sysinfo", "tgkill", "times", "uname",
    "vfork", "wait4", "waitid"};

class Filter {
 public:
  Filter() : context_(seccomp_init(SCMP_ACT_ERRNO(EPERM)), seccomp_release) {}

  // A call that this architecture has not is nothing to allow.
  void Allow(const char* name) { Rule(SCMP_ACT_ALLOW, name, nullptr); }
  void AllowWhere(const char* name, scmp_arg_cmp argument) {
    Rule(SCMP_ACT_ALLOW, name, &argument);
  }
  void Refuse(const char* name, int error) {
    Rule(SCMP_ACT_ERRNO(static_cast<uint16_t>(error)), name, nullptr);
  }
  int Load() {
    if (context_ == nullptr) return ENOMEM;
    return error_ != 0 ? error_ : -seccomp_load(context_.get());
  }

 private:
  void Rule(uint32_t action, const char* name, const scmp_arg_cmp* argument) {
    const int number = seccomp_syscall_resolve_name(name);
    if (number < 0 || context_ == nullptr) return;
    const int result = seccomp_rule_add_array(context_.get(), action, number,
                                              argument == nullptr ? 0 : 1, argument);
    if (result != 0) error_ = -result;
  }

  const std::unique_ptr<void, void (*)(void*)> context_;
  int error_ = 0;
};

scmp_arg_cmp Is(unsigned argument, uint64_t value) {
  return {.arg = argument, .op = SCMP_CMP_EQ, .datum_a = value, .datum_b = 0};
}
scmp_arg_cmp Masked(unsigned argument, uint64_t mask, uint64_t value) {
  return {.arg = argument, .op = SCMP_CMP_MASKED_EQ, .datum_a = mask, .datum_b = value};
}

void AllowEventsControl(Filter* filter) {
  // Not SET_BPF, and not MODIFY_ATTRIBUTES, by which an event could become what the broker refuses.
  for (const uint64_t request :
       {uint64_t{PERF_EVENT_IOC_ENABLE}, uint64_t{PERF_EVENT_IOC_DISABLE},
        uint64_t{PERF_EVENT_IOC_REFRESH}, uint64_t{PERF_EVENT_IOC_RESET},
        uint64_t{PERF_EVENT_IOC_PERIOD}, uint64_t{PERF_EVENT_IOC_SET_OUTPUT},
        uint64_t{PERF_EVENT_IOC_ID}, uint64_t{PERF_EVENT_IOC_PAUSE_OUTPUT}, uint64_t{FIONREAD},
        uint64_t{FIONBIO}, uint64_t{TCGETS}}) {
    filter->AllowWhere("ioctl", Is(1, request));
  }
}

}  // namespace

absl::Status EnterSandbox() {
  if (!HasNoCapability()) return absl::InternalError("the engine was started with capabilities");
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    return absl::ErrnoToStatus(errno, "cannot give up privileges");
  }
  Filter filter;
  for (const char* name : kAllowed) filter.Allow(name);
  AllowEventsControl(&filter);
  // Memory that is written is never executed, and no library is loaded any more.
  for (const char* name : {"mmap", "mprotect"}) {
    filter.AllowWhere(name, Masked(2, PROT_EXEC, 0));
  }
  // Threads, and the child of lbrctl doctor's experiment. Not namespaces. clone3(2) hides its flags
  // in memory; without it the C library takes clone(2).
  filter.AllowWhere("clone", Masked(0,
                                    CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC |
                                        CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET,
                                    0));
  filter.Allow("fork");
  filter.Refuse("clone3", ENOSYS);
  // To end that child; 0 asks whether a process is there.
  for (const uint64_t signal : {uint64_t{0}, uint64_t{SIGKILL}}) {
    filter.AllowWhere("kill", Is(1, signal));
  }
  for (const uint64_t option :
       {uint64_t{PR_SET_NAME}, uint64_t{PR_GET_NAME}, uint64_t{PR_SET_PDEATHSIG},
        uint64_t{PR_GET_DUMPABLE}, uint64_t{PR_CAPBSET_READ}, uint64_t{PR_GET_NO_NEW_PRIVS}}) {
    filter.AllowWhere("prctl", Is(0, option));
  }
#ifdef LBRD_ASAN
  // Its search for leaks at the end stops this process's threads, by tracing them.
  filter.Allow("ptrace");
  filter.AllowWhere("prctl", Is(0, PR_SET_PTRACER));
  filter.AllowWhere("prctl", Is(0, PR_SET_DUMPABLE));
#endif
  // Its own limits, and only to be read.
  filter.AllowWhere("prlimit64", Is(2, 0));
  if (const int error = filter.Load(); error != 0) {
    return absl::ErrnoToStatus(
        error, "cannot install the seccomp filter (does this kernel have CONFIG_SECCOMP_FILTER?)");
  }
  return absl::OkStatus();
}

}  // namespace lbrd::daemon
