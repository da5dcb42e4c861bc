#include "unwind/dwarf_expression.h"

#include "unwind/byte_reader.h"

namespace lbrd::unwind {
namespace {

// DW_OP_….
enum Opcode : uint8_t {
  kAddr = 0x03,
  kDeref = 0x06,
  kConst1u = 0x08,
  kConst1s = 0x09,
  kConst2u = 0x0a,
  kConst2s = 0x0b,
  kConst4u = 0x0c,
  kConst4s = 0x0d,
  kConst8u = 0x0e,
  kConst8s = 0x0f,
  kConstu = 0x10,
  kConsts = 0x11,
  kDup = 0x12,
  kDrop = 0x13,
  kOver = 0x14,
  kPick = 0x15,
  kSwap = 0x16,
  kRot = 0x17,
  kAbs = 0x19,
  kAnd = 0x1a,
  kDiv = 0x1b,
  kMinus = 0x1c,
  kMod = 0x1d,
  kMul = 0x1e,
  kNeg = 0x1f,
  kNot = 0x20,
  kOr = 0x21,
  kPlus = 0x22,
  kPlusUconst = 0x23,
  kShl = 0x24,
  kShr = 0x25,
  kShra = 0x26,
  kXor = 0x27,
  kBra = 0x28,
  kEq = 0x29,
  kGe = 0x2a,
  kGt = 0x2b,
  kLe = 0x2c,
  kLt = 0x2d,
  kNe = 0x2e,
  kSkip = 0x2f,
  kLit0 = 0x30,
  kLit31 = 0x4f,
  kBreg0 = 0x70,
  kBreg31 = 0x8f,
  kBregx = 0x92,
  kDerefSize = 0x94,
  kNop = 0x96,
};

class Machine {
 public:
  Machine(std::span<const std::byte> code, const ExpressionInput& input)
      : code_(code), in_(code), input_(input) {}

  ExpressionStatus Run(std::optional<uint64_t> initial, uint64_t* result) {
    if (initial.has_value()) Push(*initial);
    for (size_t steps = 0; !in_.AtEnd(); ++steps) {
      if (steps == kMaxExpressionSteps) return ExpressionStatus::kMalformed;
      Step(in_.Read<uint8_t>());
      if (status_ != ExpressionStatus::kOk) return status_;
      if (!in_.ok()) return ExpressionStatus::kMalformed;
    }
    *result = Pop();
    return status_;
  }

 private:
  void Fail(ExpressionStatus status) {
    if (status_ == ExpressionStatus::kOk) status_ = status;
  }
  void Push(uint64_t value) {
    if (depth_ == kMaxExpressionStack) return Fail(ExpressionStatus::kMalformed);
    stack_[depth_++] = value;
  }
  uint64_t Pop() {
    if (depth_ == 0) {
      Fail(ExpressionStatus::kMalformed);
      return 0;
    }
    return stack_[--depth_];
  }
  // The word `n` below the top.
  uint64_t Peek(size_t n) {
    if (n >= depth_) {
      Fail(ExpressionStatus::kMalformed);
      return 0;
    }
    return stack_[depth_ - 1 - n];
  }
  void PushRegister(uint64_t reg, int64_t offset) {
    const std::optional<uint64_t> value = input_.get_register(reg);
    if (!value.has_value()) return Fail(ExpressionStatus::kNoRegister);
    Push(*value + static_cast<uint64_t>(offset));
  }
  void PushMemory(uint64_t address, size_t size) {
    if (size == 0 || size > sizeof(uint64_t)) return Fail(ExpressionStatus::kMalformed);
    if (status_ != ExpressionStatus::kOk) return;
    const std::optional<uint64_t> value = input_.read_memory(address, size);
    if (!value.has_value()) return Fail(ExpressionStatus::kNoMemory);
    Push(*value);
  }
  void Branch(int16_t distance) {
    const auto to = static_cast<int64_t>(in_.at()) + distance;
    if (!in_.ok() || to < 0 || to > static_cast<int64_t>(code_.size())) {
      return Fail(ExpressionStatus::kMalformed);
    }
    in_ = ByteReader(code_, static_cast<size_t>(to));
  }
  template <typename T>
  uint64_t Extend() {
    return static_cast<uint64_t>(int64_t{in_.Read<T>()});
  }

  void Binary(uint8_t opcode) {
    const uint64_t right = Pop();
    const uint64_t left = Pop();
    const auto signed_left = static_cast<int64_t>(left);
    const auto signed_right = static_cast<int64_t>(right);
    switch (opcode) {
      case kAnd:
        return Push(left & right);
      case kDiv:
        if (right == 0) return Fail(ExpressionStatus::kMalformed);
        // The one quotient that does not fit wraps around.
        if (signed_right == -1) return Push(-left);
        return Push(static_cast<uint64_t>(signed_left / signed_right));
      case kMinus:
        return Push(left - right);
      case kMod:
        if (right == 0) return Fail(ExpressionStatus::kMalformed);
        return Push(left % right);
      case kMul:
        return Push(left * right);
      case kOr:
        return Push(left | right);
      case kPlus:
        return Push(left + right);
      case kShl:
        return Push(right < 64 ? left << right : 0);
      case kShr:
        return Push(right < 64 ? left >> right : 0);
      case kShra:
        return Push(static_cast<uint64_t>(signed_left >> (right < 64 ? right : 63)));
      case kXor:
        return Push(left ^ right);
      case kEq:
        return Push(signed_left == signed_right);
      case kGe:
        return Push(signed_left >= signed_right);
      case kGt:
        return Push(signed_left > signed_right);
      case kLe:
        return Push(signed_left <= signed_right);
      case kLt:
        return Push(signed_left < signed_right);
      default:
        return Push(signed_left != signed_right);  // kNe
    }
  }

  void Step(uint8_t opcode) {
    if (opcode >= kLit0 && opcode <= kLit31) return Push(opcode - kLit0);
    if (opcode >= kBreg0 && opcode <= kBreg31) {
      return PushRegister(opcode - kBreg0, in_.ReadSleb());
    }
    switch (opcode) {
      case kNop:
        return;
      case kAddr:
      case kConst8u:
      case kConst8s:
        return Push(in_.Read<uint64_t>());
      case kConst1u:
        return Push(in_.Read<uint8_t>());
      case kConst1s:
        return Push(Extend<int8_t>());
      case kConst2u:
        return Push(in_.Read<uint16_t>());
      case kConst2s:
        return Push(Extend<int16_t>());
      case kConst4u:
        return Push(in_.Read<uint32_t>());
      case kConst4s:
        return Push(Extend<int32_t>());
      case kConstu:
        return Push(in_.ReadUleb());
      case kConsts:
        return Push(static_cast<uint64_t>(in_.ReadSleb()));
      case kBregx: {
        const uint64_t reg = in_.ReadUleb();
        return PushRegister(reg, in_.ReadSleb());
      }
      case kDeref:
        return PushMemory(Pop(), sizeof(uint64_t));
      case kDerefSize: {
        const auto size = in_.Read<uint8_t>();
        return PushMemory(Pop(), size);
      }
      case kDup:
        return Push(Peek(0));
      case kDrop:
        Pop();
        return;
      case kOver:
        return Push(Peek(1));
      case kPick:
        return Push(Peek(in_.Read<uint8_t>()));
      case kSwap: {
        const uint64_t top = Pop();
        const uint64_t second = Pop();
        Push(top);
        return Push(second);
      }
      case kRot: {
        // The top becomes the third.
        const uint64_t top = Pop();
        const uint64_t second = Pop();
        const uint64_t third = Pop();
        Push(top);
        Push(third);
        return Push(second);
      }
      case kAbs: {
        const uint64_t value = Pop();
        return Push(static_cast<int64_t>(value) < 0 ? -value : value);
      }
      case kNeg:
        return Push(-Pop());
      case kNot:
        return Push(~Pop());
      case kPlusUconst:
        return Push(Pop() + in_.ReadUleb());
      case kSkip:
        return Branch(in_.Read<int16_t>());
      case kBra: {
        const auto distance = in_.Read<int16_t>();
        if (Pop() != 0) Branch(distance);
        return;
      }
      case kAnd:
      case kDiv:
      case kMinus:
      case kMod:
      case kMul:
      case kOr:
      case kPlus:
      case kShl:
      case kShr:
      case kShra:
      case kXor:
      case kEq:
      case kGe:
      case kGt:
      case kLe:
      case kLt:
      case kNe:
        return Binary(opcode);
      default:
        return Fail(ExpressionStatus::kUnsupported);
    }
  }

  const std::span<const std::byte> code_;
  ByteReader in_;
  const ExpressionInput& input_;
  ExpressionStatus status_ = ExpressionStatus::kOk;
  size_t depth_ = 0;
  uint64_t stack_[kMaxExpressionStack];
};

}  // namespace

ExpressionStatus EvaluateExpression(std::span<const std::byte> expression,
                                    std::optional<uint64_t> initial, const ExpressionInput& input,
                                    uint64_t* result) {
  return Machine(expression, input).Run(initial, result);
}

}  // namespace lbrd::unwind
