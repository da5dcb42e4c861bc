#include "unwind/unwind_rules.h"

#include <cstring>

namespace lbrd::unwind {
namespace {

constexpr UnwindRule kNoRule{};

template <typename T>
size_t Bytes(const std::vector<T>& v) {
  return v.capacity() * sizeof(T);
}

}  // namespace

bool UnwindRule::operator==(const UnwindRule& other) const {
  return std::memcmp(this, &other, sizeof(*this)) == 0;  // there is no padding
}

const UnwindRule& UnwindRules::Find(uint64_t address) const {
  const uint64_t offset = address - base_;
  const uint64_t page = offset / kPageBytes;
  if (address < base_ || page + 1 >= first_row_.size()) return kNoRule;
  // The last row that begins at or before the address; of an earlier page, if need be.
  const auto low = static_cast<uint16_t>(offset % kPageBytes);
  uint32_t first = first_row_[page];
  uint32_t count = first_row_[page + 1] - first;
  // No branch depends on the keys: they are as good as random.
  while (count > 0) {
    const uint32_t half = count / 2;
    const bool after = low_[first + half] <= low;
    first = after ? first + half + 1 : first;
    count = after ? count - half - 1 : half;
  }
  return first == 0 ? kNoRule : rules_[rule_[first - 1]];
}

FullRule UnwindRules::Full(uint32_t index) const {
  if (index >= full_.size()) return {};
  const StoredFull& stored = full_[index];
  return {.cfa_is_expression = stored.cfa_is_expression,
          .cfa_register = stored.cfa_register,
          .cfa_offset = stored.cfa_offset,
          .cfa_expression =
              std::span(expressions_).subspan(stored.cfa_expression, stored.cfa_expression_size),
          .registers =
              std::span(full_registers_).subspan(stored.first_register, stored.register_count)};
}

std::span<const std::byte> UnwindRules::Expression(const FullRule::Register& reg) const {
  return std::span(expressions_).subspan(reg.expression, reg.expression_size);
}

size_t UnwindRules::bytes() const {
  return sizeof(*this) + Bytes(first_row_) + Bytes(low_) + Bytes(rule_) + Bytes(rules_) +
         Bytes(full_) + Bytes(full_registers_) + Bytes(expressions_);
}

}  // namespace lbrd::unwind
