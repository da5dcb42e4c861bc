#include "tests/sim/program.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace lbrd::sim {
namespace {

constexpr uint64_t kKernelText = 0xffffffff81000000;
constexpr uint64_t kPage = 4096;

constexpr const char* kKernelNames[kKernelFunctions] = {
    "sim_idle",      "sim_syscall_entry",    "sim_syscall",    "sim_schedule",
    "sim_switch_to", "sim_page_fault_entry", "sim_page_fault", "sim_interrupt_entry",
    "sim_interrupt", "sim_thread",           "sim_thread_work"};

constexpr const char* kModuleSuffix[kModules] = {"", ".lib.so", ".plugin.so"};

}  // namespace

std::shared_ptr<const Program> Program::Make(const ProgramOptions& options, uint64_t serial,
                                             Random& random) {
  std::shared_ptr<Program> program(new Program);
  program->name_ = options.name;
  const uint32_t count = std::max<uint32_t>(options.functions, 8);
  std::array<uint32_t, kModules> filled{};
  for (uint32_t i = 0; i < count; ++i) {
    Function function;
    // A third of the functions is in the library, a tenth in the plug-in.
    if (i > kThreadStart) {
      if (options.plug_in && i % 10 == 9) {
        function.module = ModuleKind::kPlugIn;
      } else if (i % 3 == 0) {
        function.module = ModuleKind::kLibrary;
      }
    }
    const auto module = static_cast<size_t>(function.module);
    function.name = i == kProcessStart  ? "_start"
                    : i == kThreadStart ? "thread_start"
                                        : absl::StrCat("sim_", options.name, "_", i);
    function.offset = static_cast<uint32_t>(kCodeOffset + filled[module]++ * kFunctionBytes);
    function.size = kFunctionBytes;
    const uint32_t calls = std::clamp<uint32_t>(options.calls_per_function, 1, 12);
    for (uint32_t c = 0; c < calls; ++c) {
      // Without recursion only to functions behind: the last ones call nobody.
      const uint32_t least = options.recursion ? kThreadStart + 1 : i + 1;
      if (least >= count || (i <= kThreadStart && c > 0)) break;
      CallSite call;
      call.offset = 16 + c * 16 + static_cast<uint32_t>(random.Below(8));
      call.callee = std::max<uint32_t>(static_cast<uint32_t>(random.Between(least, count - 1)), 2);
      if (options.recursion && random.Chance(100'000)) call.callee = std::max<uint32_t>(i, 2);
      // A function that nobody called has nobody to leave its return address to.
      call.tail = options.tail_calls && i > kThreadStart && random.Chance(100'000);
      function.calls.push_back(call);
    }
    program->functions_.push_back(std::move(function));
  }
  for (size_t m = 0; m < kModules; ++m) {
    Module& module = program->modules_[m];
    module.path = absl::StrCat("/[simulated]/", options.name, kModuleSuffix[m]);
    module.bytes = (kCodeOffset + filled[m] * kFunctionBytes + kPage - 1) / kPage * kPage;
    module.inode = 1000 + serial * kModules + m;
    for (uint8_t& byte : module.build_id) byte = static_cast<uint8_t>(random.Below(256));
  }
  return program;
}

const char* KernelFunctionName(KernelFunction function) {
  return kKernelNames[static_cast<size_t>(function)];
}

uint64_t KernelFunctionAddress(KernelFunction function) {
  return kKernelText + static_cast<uint64_t>(function) * Program::kFunctionBytes;
}

std::string KernelSymbolsText() {
  std::string text;
  for (size_t i = 0; i < kKernelFunctions; ++i) {
    absl::StrAppend(&text,
                    absl::StrFormat("%016x t %s\n", kKernelText + i * Program::kFunctionBytes,
                                    kKernelNames[i]));
  }
  return text;
}

}  // namespace lbrd::sim
