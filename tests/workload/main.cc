// A program to profile: its functions' shares of its CPU time are known by construction. See
// README.md.

#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <fstream>
#include <string>
#include <vector>

#include "tests/workload/children.h"
#include "tests/workload/round_gate.h"
#include "tests/workload/truth.h"
#include "tests/workload/workers.h"

namespace demo {

struct WorkerThread {
  Worker worker;
  RoundGate* gate = nullptr;
  pthread_t thread{};
};

// The first function of every worker thread; not in an unnamed namespace, since profiles show it.
DEMO_OWN_FRAME void* RunWorker(void* argument) {
  WorkerThread& self = *static_cast<WorkerThread*>(argument);
  if (!EnterThread(self.worker)) {
    fprintf(stderr, "demo: cannot set up %s: %s\n", ThreadName(self.worker).c_str(),
            strerror(errno));
    exit(1);
  }
  do {
    self.worker.kind->round(self.worker);
  } while (self.gate->FinishRound(self.worker.index));
  LeaveThread(self.worker);
  return nullptr;
}

namespace {

constexpr char kHelp[] = R"(Usage: demo [OPTION]...
A program to profile. Several named threads use CPU time in functions whose shares
of the program's CPU time are known by construction, whatever the machine does.

  --seconds N      stop after N seconds (default: run until SIGTERM or SIGINT)
  --threads N      worker threads, 1 to 256 (default 5: demo-parse, demo-codec,
                   demo-recurse, demo-signal, demo-render; more repeat these)
  --children on|off
                   start a short-lived child (comm demo-child) every 100 ms
                   (default on); it uses 20 ms in short_lived_child_work
  --truth          print the shares as JSON and exit. They are shares of this
                   process's own CPU time; the children are not part of it
  --report FILE    at exit, write what the clocks measured as JSON
  --help           print this

Examples:
  demo --seconds 10 & lbrctl record -p $! -d 8s
  demo --truth
)";

struct Options {
  double seconds = 0;  // 0: until a signal
  int threads = 5;
  bool children = true;
  bool truth = false;
  std::string report;
};

[[noreturn]] void BadUsage(const std::string& what) {
  fprintf(stderr, "demo: %s\nTry 'demo --help'.\n", what.c_str());
  exit(2);
}

double NumberOf(const char* option, const char* text, double least, double most) {
  char* end = nullptr;
  const double value = strtod(text, &end);
  if (end == text || *end != '\0' || !(value >= least && value <= most)) {
    BadUsage(std::string(option) + " wants a number from " +
             std::to_string(static_cast<long>(least)) + " to " +
             std::to_string(static_cast<long>(most)) + ", not '" + text + "'");
  }
  return value;
}

Options ParseOptions(int argc, char** argv) {
  constexpr option kLong[] = {
      {"seconds", required_argument, nullptr, 's'},
      {"threads", required_argument, nullptr, 't'},
      {"children", required_argument, nullptr, 'c'},
      {"truth", no_argument, nullptr, 'T'},
      {"report", required_argument, nullptr, 'r'},
      {"help", no_argument, nullptr, 'h'},
      {nullptr, 0, nullptr, 0},
  };
  Options options;
  for (int c; (c = getopt_long(argc, argv, "", kLong, nullptr)) != -1;) {
    const std::string value = optarg == nullptr ? "" : optarg;
    switch (c) {
      case 's':
        options.seconds = NumberOf("--seconds", optarg, 0, 1'000'000);
        break;
      case 't':
        options.threads = static_cast<int>(NumberOf("--threads", optarg, 1, 256));
        break;
      case 'c':
        if (value != "on" && value != "off")
          BadUsage("--children wants on or off, not '" + value + "'");
        options.children = value == "on";
        break;
      case 'T':
        options.truth = true;
        break;
      case 'r':
        options.report = value;
        break;
      case 'h':
        fputs(kHelp, stdout);
        exit(0);
      default:
        BadUsage("unknown option or missing value");
    }
  }
  if (optind < argc) BadUsage("unexpected argument '" + std::string(argv[optind]) + "'");
  return options;
}

double MonotonicSeconds() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

// Starts children and waits, until a signal or the time is up.
void WaitForEnd(const Options& options, const sigset_t& end_signals, Children& children) {
  const double started = MonotonicSeconds();
  for (;;) {
    double wait = kChildPeriodMs / 1000.0;
    if (options.seconds > 0) {
      const double left = started + options.seconds - MonotonicSeconds();
      if (left <= 0) return;
      wait = left < wait ? left : wait;
    }
    const timespec timeout{0, static_cast<long>(wait * 1e9)};
    if (sigtimedwait(&end_signals, nullptr, &timeout) > 0) return;
    children.Reap();
    if (options.children) children.Start();
  }
}

int Main(int argc, char** argv) {
  if (argc == 2 && strcmp(argv[1], "--child") == 0) return ChildMain();
  const Options options = ParseOptions(argc, argv);
  if (options.truth) {
    fputs(TruthJson(options.threads, options.children).c_str(), stdout);
    return 0;
  }

  // Blocked before any thread starts, so that only sigtimedwait() below takes them.
  sigset_t end_signals;
  sigemptyset(&end_signals);
  sigaddset(&end_signals, SIGTERM);
  sigaddset(&end_signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &end_signals, nullptr);

  const double started = MonotonicSeconds();
  RoundGate gate(options.threads);
  std::vector<WorkerThread> threads(static_cast<size_t>(options.threads));
  for (size_t i = 0; i < threads.size(); ++i) {
    threads[i].worker = MakeWorker(static_cast<int>(i));
    threads[i].gate = &gate;
    const int error = pthread_create(&threads[i].thread, nullptr, RunWorker, &threads[i]);
    if (error != 0) {
      fprintf(stderr, "demo: cannot start thread %zu: %s\n", i + 1, strerror(error));
      return 1;
    }
  }
  Children children;
  WaitForEnd(options, end_signals, children);
  gate.Stop();
  for (WorkerThread& thread : threads) pthread_join(thread.thread, nullptr);
  children.ReapAll();

  if (!options.report.empty()) {
    std::vector<Worker> workers;
    for (const WorkerThread& thread : threads) workers.push_back(thread.worker);
    std::ofstream file(options.report);
    file << ReportJson(workers, gate.rounds(), MonotonicSeconds() - started, children)
         << std::flush;
    if (!file) {
      fprintf(stderr, "demo: cannot write %s: %s\n", options.report.c_str(), strerror(errno));
      return 1;
    }
  }
  return 0;
}

}  // namespace
}  // namespace demo

int main(int argc, char** argv) { return demo::Main(argc, argv); }
