// A child process whose call stack is known and which is switched out all the time: what the LBR
// experiment (lbr_survival.h) looks at.
//
// It calls kCalls functions deep, works and sleeps by turns at the bottom, and goes down again
// every 32 turns (some 10 ms). It runs on one CPU only. It is a fork of this process that makes
// nothing but system calls, so forking is safe with threads around and functions stand at the same
// addresses on both sides: no program to find, load and relocate, and every entry of a branch stack
// can be checked against the chain. It keeps none of our descriptors, so that what we close is
// closed.
//
// Thread rules: one thread. The destructor ends and reaps the child; it also dies with the thread
// that forked it, and by itself after 10 s.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "absl/status/statusor.h"

namespace lbrd::pmu {

class SwitchingChild {
 public:
  static constexpr size_t kCalls = 20;

  SwitchingChild() = default;
  SwitchingChild(const SwitchingChild&) = delete;
  SwitchingChild& operator=(const SwitchingChild&) = delete;
  virtual ~SwitchingChild() = default;

  virtual int32_t pid() const = 0;
  // Where it runs.
  virtual int32_t cpu() const = 0;
  // Where the functions of its chain begin, outermost first: kCalls.
  virtual std::span<const uint64_t> chain() const = 0;
  // Lets it go down its chain. Until then it waits: LBR that is switched on later would not know
  // the calls that were made before.
  virtual absl::Status Release() = 0;
};

// Makes a child, waiting, on the CPU that this thread is on.
using StartSwitchingChild = std::function<absl::StatusOr<std::unique_ptr<SwitchingChild>>()>;
absl::StatusOr<std::unique_ptr<SwitchingChild>> ForkSwitchingChild();

}  // namespace lbrd::pmu
