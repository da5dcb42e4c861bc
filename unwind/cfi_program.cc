#include "unwind/cfi_program.h"

namespace lbrd::unwind {
namespace {

// DW_CFA_…. The first three keep an operand in their low six bits.
enum Opcode : uint8_t {
  kAdvanceLoc = 0x40,
  kOffset = 0x80,
  kRestore = 0xc0,
  kNop = 0x00,
  kSetLoc = 0x01,
  kAdvanceLoc1 = 0x02,
  kAdvanceLoc2 = 0x03,
  kAdvanceLoc4 = 0x04,
  kOffsetExtended = 0x05,
  kRestoreExtended = 0x06,
  kUndefined = 0x07,
  kSameValue = 0x08,
  kRegister = 0x09,
  kRememberState = 0x0a,
  kRestoreState = 0x0b,
  kDefCfa = 0x0c,
  kDefCfaRegister = 0x0d,
  kDefCfaOffset = 0x0e,
  kDefCfaExpression = 0x0f,
  kExpression = 0x10,
  kOffsetExtendedSigned = 0x11,
  kDefCfaSigned = 0x12,
  kDefCfaOffsetSigned = 0x13,
  kValueOffset = 0x14,
  kValueOffsetSigned = 0x15,
  kValueExpression = 0x16,
  kMipsAdvanceLoc8 = 0x1d,
  kGnuArgsSize = 0x2e,
  kGnuNegativeOffsetExtended = 0x2f,
};

using Kind = CfiRegisterRule::Kind;

// Wraps around instead of overflowing: such offsets lead nowhere, and are found out there.
int64_t Scale(uint64_t factor, int64_t alignment) {
  return static_cast<int64_t>(factor * static_cast<uint64_t>(alignment));
}

class Machine {
 public:
  Machine(const CfiSection& section, const Cie& cie, std::span<const std::byte> instructions,
          const CfiRow* initial, CfiRow* row)
      : section_(section), cie_(cie), initial_(initial), row_(*row) {
    if (instructions.empty()) return;
    // Pointers among the instructions are relative to where they stand in the section.
    const auto begin = static_cast<size_t>(instructions.data() - section.bytes.data());
    in_ = ByteReader(section.bytes.first(begin + instructions.size()), begin);
  }

  bool AtEnd() const { return in_.AtEnd(); }

  // Does one instruction. False: it is malformed or unknown. When it moves on, *location changes;
  // never backwards.
  bool Step(std::vector<CfiRow>* remembered, uint64_t* location) {
    const auto opcode = in_.Read<uint8_t>();
    const uint8_t low = opcode & 0x3f;
    switch (opcode & 0xc0) {
      case kAdvanceLoc:
        return Advance(low, location);
      case kOffset:
        return SetOffset(low, in_.ReadUleb());
      case kRestore:
        return Restore(low);
      default:
        break;
    }
    switch (opcode) {
      case kNop:
        return true;
      case kSetLoc: {
        const std::optional<uint64_t> to =
            ReadEncodedPointer(section_, cie_.pointer_encoding, &in_);
        if (!to.has_value() || *to < *location) return false;
        *location = *to;
        return true;
      }
      case kAdvanceLoc1:
        return Advance(in_.Read<uint8_t>(), location);
      case kAdvanceLoc2:
        return Advance(in_.Read<uint16_t>(), location);
      case kAdvanceLoc4:
        return Advance(in_.Read<uint32_t>(), location);
      case kMipsAdvanceLoc8:
        return Advance(in_.Read<uint64_t>(), location);
      case kOffsetExtended: {
        const uint64_t reg = in_.ReadUleb();
        return SetOffset(reg, in_.ReadUleb());
      }
      case kOffsetExtendedSigned: {
        const uint64_t reg = in_.ReadUleb();
        return SetOffset(reg, static_cast<uint64_t>(in_.ReadSleb()));
      }
      case kGnuNegativeOffsetExtended: {
        const uint64_t reg = in_.ReadUleb();
        return SetOffset(reg, -in_.ReadUleb());
      }
      case kValueOffset: {
        const uint64_t reg = in_.ReadUleb();
        return Set(reg, {Kind::kOffset, Scale(in_.ReadUleb(), cie_.data_alignment), {}});
      }
      case kValueOffsetSigned: {
        const uint64_t reg = in_.ReadUleb();
        const auto factor = static_cast<uint64_t>(in_.ReadSleb());
        return Set(reg, {Kind::kOffset, Scale(factor, cie_.data_alignment), {}});
      }
      case kRestoreExtended:
        return Restore(in_.ReadUleb());
      case kUndefined:
        return Set(in_.ReadUleb(), {Kind::kUndefined, 0, {}});
      case kSameValue:
        return Set(in_.ReadUleb(), {Kind::kSame, 0, {}});
      case kRegister: {
        const uint64_t reg = in_.ReadUleb();
        return Set(reg, {Kind::kRegister, static_cast<int64_t>(in_.ReadUleb()), {}});
      }
      case kExpression: {
        const uint64_t reg = in_.ReadUleb();
        return Set(reg, {Kind::kAtExpression, 0, in_.ReadBytes(in_.ReadUleb())});
      }
      case kValueExpression: {
        const uint64_t reg = in_.ReadUleb();
        return Set(reg, {Kind::kExpression, 0, in_.ReadBytes(in_.ReadUleb())});
      }
      case kRememberState:
        if (remembered->size() >= CfiProgram::kMaxRemembered) return false;
        remembered->push_back(row_);
        return true;
      case kRestoreState:
        if (remembered->empty()) return false;
        row_ = remembered->back();
        remembered->pop_back();
        return true;
      case kDefCfa:
      case kDefCfaSigned: {
        const uint64_t reg = in_.ReadUleb();
        const int64_t offset =
            opcode == kDefCfa ? static_cast<int64_t>(in_.ReadUleb()) : ScaledSleb();
        return DefineCfa(reg, offset);
      }
      case kDefCfaRegister:
        // After an expression the offset is not known.
        if (row_.cfa_kind != CfiRow::CfaKind::kRegister) return false;
        return DefineCfa(in_.ReadUleb(), row_.cfa_offset);
      case kDefCfaOffset:
      case kDefCfaOffsetSigned: {
        if (row_.cfa_kind != CfiRow::CfaKind::kRegister) return false;
        const int64_t offset =
            opcode == kDefCfaOffset ? static_cast<int64_t>(in_.ReadUleb()) : ScaledSleb();
        return DefineCfa(row_.cfa_register, offset);
      }
      case kDefCfaExpression:
        row_.cfa_kind = CfiRow::CfaKind::kExpression;
        row_.cfa_expression = in_.ReadBytes(in_.ReadUleb());
        return in_.ok();
      case kGnuArgsSize:
        in_.ReadUleb();
        return in_.ok();
      default:
        return false;
    }
  }

 private:
  int64_t ScaledSleb() { return Scale(static_cast<uint64_t>(in_.ReadSleb()), cie_.data_alignment); }
  bool Advance(uint64_t delta, uint64_t* location) {
    uint64_t bytes = 0;
    if (!in_.ok() || __builtin_mul_overflow(delta, cie_.code_alignment, &bytes) ||
        __builtin_add_overflow(*location, bytes, location)) {
      return false;
    }
    return true;
  }
  bool Set(uint64_t reg, const CfiRegisterRule& rule) {
    if (in_.ok() && reg < kCfiRegisters) row_.registers[reg] = rule;
    return in_.ok();
  }
  bool SetOffset(uint64_t reg, uint64_t factor) {
    return Set(reg, {Kind::kAtOffset, Scale(factor, cie_.data_alignment), {}});
  }
  bool Restore(uint64_t reg) {
    if (initial_ == nullptr || reg >= kCfiRegisters) return in_.ok();
    return Set(reg, initial_->registers[reg]);
  }
  bool DefineCfa(uint64_t reg, int64_t offset) {
    row_.cfa_kind = CfiRow::CfaKind::kRegister;
    row_.cfa_register = reg;
    row_.cfa_offset = offset;
    return in_.ok();
  }

  const CfiSection& section_;
  const Cie& cie_;
  const CfiRow* const initial_;  // null: this is a CIE's own program
  CfiRow& row_;
  ByteReader in_{{}};
};

}  // namespace

bool CfiProgram::Begin(const CfiSection& section, const Cie& cie, CfiRow* initial) {
  *initial = {};
  std::vector<CfiRow> remembered;
  Machine machine(section, cie, cie.instructions, nullptr, initial);
  uint64_t location = 0;
  while (!machine.AtEnd()) {
    if (!machine.Step(&remembered, &location)) return false;
  }
  return true;
}

uint64_t CfiProgram::Run(const CfiSection& section, const Cie& cie, const CfiRow& initial,
                         const Fde& fde, absl::FunctionRef<void(uint64_t, const CfiRow&)> visit) {
  remembered_.clear();
  CfiRow row = initial;
  Machine machine(section, cie, fde.instructions, &initial, &row);
  uint64_t from = fde.start;  // since when the row holds
  uint64_t location = fde.start;
  while (!machine.AtEnd()) {
    // What an instruction changes holds from where it stands: a row is whole when one moves on.
    if (!machine.Step(&remembered_, &location)) return from;
    if (location == from) continue;
    visit(from, row);
    if (location >= fde.end) return fde.end;
    from = location;
  }
  visit(from, row);
  return fde.end;
}

const CfiRow* CfiProgram::Find(const CfiSection& section, const Cie& cie, const CfiRow& initial,
                               const Fde& fde, uint64_t address) {
  remembered_.clear();
  found_ = initial;
  Machine machine(section, cie, fde.instructions, &initial, &found_);
  uint64_t location = fde.start;
  while (!machine.AtEnd()) {
    if (!machine.Step(&remembered_, &location)) return nullptr;
    if (location > address) break;
  }
  return &found_;
}

}  // namespace lbrd::unwind
