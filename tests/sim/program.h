// Synthetic programs: functions at addresses and the calls they hold. Nothing of them is ever
// executed; tasks walk over them (walk.h), and what is on their stacks is known exactly.
//
// A program has three modules, mapped at addresses of each process's own: the executable, a library
// and a plug-in that is mapped when it is first called. All paths begin with "/[simulated]/".
//
// Size: about 100 bytes a function. Immutable, shared by all processes that run it.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/sim/random.h"

namespace lbrd::sim {

enum class ModuleKind : uint8_t { kExecutable, kLibrary, kPlugIn };
inline constexpr size_t kModules = 3;

// Every call instruction is as long as x86-64's "call rel32"; it returns to the byte behind it.
inline constexpr uint32_t kCallBytes = 5;

struct CallSite {
  uint32_t offset = 0;  // of the instruction, from the function's entry
  uint32_t callee = 0;
  bool tail = false;  // a jump: leaves no return address
};

struct Function {
  std::string name;
  ModuleKind module = ModuleKind::kExecutable;
  uint32_t offset = 0;  // in its module: file offset and address alike
  uint32_t size = 0;    // bytes
  std::vector<CallSite> calls;
};

struct Module {
  std::string path;
  uint64_t bytes = 0;  // of its executable mapping, whole pages
  uint64_t inode = 0;
  std::array<uint8_t, 20> build_id{};
};

struct ProgramOptions {
  std::string name = "work";
  uint32_t functions = 60;
  uint32_t calls_per_function = 4;
  bool recursion = true;   // functions call themselves and those that (indirectly) call them
  bool tail_calls = true;  // a tenth of the call sites
  bool plug_in = true;
};

class Program {
 public:
  // The functions that nobody calls: where a process and where a further thread starts.
  static constexpr uint32_t kProcessStart = 0;
  static constexpr uint32_t kThreadStart = 1;
  static constexpr uint32_t kFunctionBytes = 256;
  // A module's code starts this far into it; before it are what file headers it has.
  static constexpr uint64_t kCodeOffset = 0x1000;

  static std::shared_ptr<const Program> Make(const ProgramOptions& options, uint64_t serial,
                                             Random& random);

  const std::string& name() const { return name_; }
  const std::vector<Function>& functions() const { return functions_; }
  const Function& function(uint32_t index) const { return functions_[index]; }
  const Module& module(ModuleKind kind) const { return modules_[static_cast<size_t>(kind)]; }
  // The 8 bytes of data that this function reads and writes, from the executable's mapping start.
  uint64_t VariableOffset(uint32_t function) const {
    return modules_[0].bytes + uint64_t{function} * 8;
  }
  uint64_t VariableBytes() const { return (functions_.size() * 8 + 4095) / 4096 * 4096; }

 private:
  Program() = default;
  std::string name_;
  std::vector<Function> functions_;
  std::array<Module, kModules> modules_;
};

// The kernel's own functions, at addresses where kernels are; named "sim_…".
enum class KernelFunction : uint8_t {
  kIdle,
  kSyscallEntry,
  kSyscall,
  kSchedule,
  kSwitch,
  kPageFaultEntry,
  kPageFault,
  kInterruptEntry,
  kInterrupt,
  kThread,
  kThreadWork,
};
inline constexpr size_t kKernelFunctions = 11;
const char* KernelFunctionName(KernelFunction function);
uint64_t KernelFunctionAddress(KernelFunction function);
// The text of /proc/kallsyms.
std::string KernelSymbolsText();

}  // namespace lbrd::sim
