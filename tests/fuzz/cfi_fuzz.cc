// Any bytes as call frame information and DWARF expressions, compiled to rules and unwound by.
//
// The first byte says what follows: .eh_frame, .debug_frame, an .eh_frame with the header that
// leads to its entries, or one expression.
#include <asm/perf_regs.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>

#include "unwind/dwarf_expression.h"
#include "unwind/unwind_rules_builder.h"

namespace {

using lbrd::unwind::CfiSection;
using lbrd::unwind::FullRule;
using lbrd::unwind::UnwindRule;
using lbrd::unwind::UnwindRules;
using lbrd::unwind::UnwindRulesBuilder;

constexpr uint64_t kCode = 0x10000;
constexpr uint64_t kCodeEnd = 0x50000;
constexpr uint64_t kSection = 0x60000;

void Check(bool holds) {
  if (!holds) std::abort();
}

void Evaluate(std::span<const std::byte> code) {
  size_t asked = 0;
  const auto get_register = [&](uint64_t reg) -> std::optional<uint64_t> {
    ++asked;
    return reg < 17 ? std::optional<uint64_t>(reg * 0x1000) : std::nullopt;
  };
  const auto read_memory = [&](uint64_t address, size_t size) -> std::optional<uint64_t> {
    ++asked;
    Check(size >= 1 && size <= 8);
    return address % 3 == 0 ? std::nullopt : std::optional<uint64_t>(address ^ 0xff);
  };
  uint64_t result = 0;
  static_cast<void>(
      lbrd::unwind::EvaluateExpression(code, kCode, {get_register, read_memory}, &result));
  Check(asked <= lbrd::unwind::kMaxExpressionSteps);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  const auto bytes = std::as_bytes(std::span(data + 1, size - 1));
  UnwindRulesBuilder builder(kCode, kCodeEnd);
  switch (data[0] % 4) {
    case 0:
      builder.Add({bytes, kSection, /*debug_frame=*/false});
      break;
    case 1:
      builder.Add({bytes, kSection, /*debug_frame=*/true});
      builder.Add({bytes, kSection, /*debug_frame=*/false});
      break;
    case 2: {
      const size_t half = bytes.size() / 2;
      builder.AddByHeader({bytes.subspan(half), kSection, /*debug_frame=*/false}, bytes.first(half),
                          kSection);
      break;
    }
    default:
      Evaluate(bytes);
      return 0;
  }
  const UnwindRules rules = builder.Finish();
  // A row costs at least a byte of instructions; each function has an end.
  Check(rules.rows() <= 2 * size + 2);
  Check(rules.bytes() <= 128 * size + (1 << 16));
  uint64_t last = 0;
  rules.ForEachRow([&](uint64_t address, const UnwindRule& rule) {
    Check(address >= kCode && address <= kCodeEnd && address >= last);
    last = address;
    if (address < kCodeEnd) Check(rules.Find(address) == rule);
    if (rule.kind != UnwindRule::kFull) return;
    const FullRule full = rules.Full(rule.full);
    if (full.cfa_is_expression) Evaluate(full.cfa_expression);
    for (const FullRule::Register& reg : full.registers) {
      Check(reg.number < lbrd::unwind::kCfiRegisters);
      Evaluate(rules.Expression(reg));
    }
  });
  for (uint64_t address = 0; address < 2 * kCodeEnd; address += 0x777) rules.Find(address);
  rules.Find(UINT64_MAX);
  return 0;
}
