#include "unwind/cfi_parser.h"

namespace lbrd::unwind {
namespace {

// DW_EH_PE_…: the low four bits say how a pointer is stored, the next three what it is relative to.
constexpr uint8_t kAbsolute = 0x00;
constexpr uint8_t kUleb = 0x01;
constexpr uint8_t kUnsigned2 = 0x02;
constexpr uint8_t kUnsigned4 = 0x03;
constexpr uint8_t kUnsigned8 = 0x04;
constexpr uint8_t kSleb = 0x09;
constexpr uint8_t kSigned2 = 0x0a;
constexpr uint8_t kSigned4 = 0x0b;
constexpr uint8_t kSigned8 = 0x0c;
constexpr uint8_t kFormat = 0x0f;
constexpr uint8_t kRelation = 0x70;
constexpr uint8_t kPcRelative = 0x10;
constexpr uint8_t kIndirect = 0x80;

constexpr size_t kMaxAugmentation = 8;

std::optional<uint64_t> ReadFormatted(uint8_t format, ByteReader* in) {
  uint64_t value = 0;
  switch (format) {
    case kAbsolute:
    case kUnsigned8:
    case kSigned8:
      value = in->Read<uint64_t>();
      break;
    case kUleb:
      value = in->ReadUleb();
      break;
    case kSleb:
      value = static_cast<uint64_t>(in->ReadSleb());
      break;
    case kUnsigned2:
      value = in->Read<uint16_t>();
      break;
    case kSigned2:
      value = static_cast<uint64_t>(int64_t{in->Read<int16_t>()});
      break;
    case kUnsigned4:
      value = in->Read<uint32_t>();
      break;
    case kSigned4:
      value = static_cast<uint64_t>(int64_t{in->Read<int32_t>()});
      break;
    default:
      return std::nullopt;
  }
  return in->ok() ? std::optional<uint64_t>(value) : std::nullopt;
}

// What follows 'z', letter by letter. False: a letter is unknown, so that what it stands for may
// change the meaning of everything.
bool ReadAugmentation(const char* letters, ByteReader* in, Cie* cie) {
  for (; *letters != 0; ++letters) {
    switch (*letters) {
      case 'R':
        cie->pointer_encoding = in->Read<uint8_t>();
        break;
      case 'L':
        in->Read<uint8_t>();
        break;
      case 'P': {
        const auto encoding = in->Read<uint8_t>();
        if (!ReadFormatted(encoding & kFormat, in).has_value()) return false;
        break;
      }
      case 'S':
        cie->signal_frame = true;
        break;
      case 'B':  // AArch64: return addresses are signed with the other key
        break;
      default:
        return false;
    }
  }
  return in->ok();
}

}  // namespace

std::optional<uint64_t> ReadEncodedPointer(const CfiSection& section, uint8_t encoding,
                                           ByteReader* in) {
  if ((encoding & kIndirect) != 0) return std::nullopt;
  const uint64_t address = section.address + in->at();
  const std::optional<uint64_t> value = ReadFormatted(encoding & kFormat, in);
  if (!value.has_value()) return std::nullopt;
  if ((encoding & kRelation) == kPcRelative) return *value + address;
  return (encoding & kRelation) == 0 ? value : std::nullopt;
}

std::optional<CfiEntry> ReadCfiEntry(const CfiSection& section, size_t offset) {
  ByteReader in(section.bytes, offset);
  uint64_t length = in.Read<uint32_t>();
  if (!in.ok()) return std::nullopt;
  CfiEntry entry;
  if (length == 0) {
    entry.next = in.at();
    return entry;
  }
  if (length == 0xffffffff) {
    entry.is_64_bit = true;
    length = in.Read<uint64_t>();
  } else if (length >= 0xfffffff0) {
    return std::nullopt;
  }
  const size_t body = in.at();
  if (!in.ok() || length > section.bytes.size() - body) return std::nullopt;
  entry.next = body + static_cast<size_t>(length);
  // .eh_frame's ids have 4 bytes in either form.
  const bool wide_id = entry.is_64_bit && section.debug_frame;
  const uint64_t id = wide_id ? in.Read<uint64_t>() : in.Read<uint32_t>();
  if (!in.ok() || in.at() > entry.next) return std::nullopt;
  entry.content = in.at();
  const uint64_t cie_id = !section.debug_frame ? 0 : wide_id ? ~uint64_t{0} : 0xffffffff;
  if (id == cie_id) {
    entry.kind = CfiEntry::Kind::kCie;
    return entry;
  }
  entry.kind = CfiEntry::Kind::kFde;
  // Too far is an offset that ParseCie() refuses.
  entry.cie = section.debug_frame ? static_cast<size_t>(id)
              : id <= body        ? body - static_cast<size_t>(id)
                                  : section.bytes.size();
  return entry;
}

std::optional<Cie> ParseCie(const CfiSection& section, size_t offset) {
  const std::optional<CfiEntry> entry = ReadCfiEntry(section, offset);
  if (!entry.has_value() || entry->kind != CfiEntry::Kind::kCie) return std::nullopt;
  const CfiSection bounded{section.bytes.first(entry->next), section.address, section.debug_frame};
  ByteReader in(bounded.bytes, entry->content);
  const auto version = in.Read<uint8_t>();
  if (version != 1 && version != 3 && version != 4) return std::nullopt;
  char augmentation[kMaxAugmentation] = {};
  for (size_t i = 0;; ++i) {
    if (i == kMaxAugmentation) return std::nullopt;
    augmentation[i] = in.Read<char>();
    if (augmentation[i] == 0) break;
  }
  if (version == 4) {
    const auto address_bytes = in.Read<uint8_t>();
    const auto segment_bytes = in.Read<uint8_t>();
    if (address_bytes != sizeof(uint64_t) || segment_bytes != 0) return std::nullopt;
  }
  Cie cie;
  cie.code_alignment = in.ReadUleb();
  cie.data_alignment = in.ReadSleb();
  cie.return_register = version == 1 ? in.Read<uint8_t>() : in.ReadUleb();
  if (augmentation[0] == 'z') {
    cie.has_augmentation_data = true;
    const uint64_t size = in.ReadUleb();
    const size_t at = in.at();
    if (!in.ok() || size > bounded.bytes.size() - at) return std::nullopt;
    const size_t end = at + static_cast<size_t>(size);
    ByteReader letters(bounded.bytes.first(end), at);
    if (!ReadAugmentation(augmentation + 1, &letters, &cie)) return std::nullopt;
    in = ByteReader(bounded.bytes, end);
  } else if (augmentation[0] != 0) {
    return std::nullopt;
  }
  if (!in.ok()) return std::nullopt;
  cie.instructions = bounded.bytes.subspan(in.at());
  return cie;
}

std::optional<Fde> ParseFde(const CfiSection& section, const CfiEntry& entry, const Cie& cie) {
  const CfiSection bounded{section.bytes.first(entry.next), section.address, section.debug_frame};
  ByteReader in(bounded.bytes, entry.content);
  const std::optional<uint64_t> start = ReadEncodedPointer(bounded, cie.pointer_encoding, &in);
  if (!start.has_value()) return std::nullopt;
  const std::optional<uint64_t> size = ReadFormatted(cie.pointer_encoding & kFormat, &in);
  if (!size.has_value() || *size == 0 || *start + *size < *start) return std::nullopt;
  if (cie.has_augmentation_data) in.ReadBytes(in.ReadUleb());
  if (!in.ok()) return std::nullopt;
  return Fde{*start, *start + *size, bounded.bytes.subspan(in.at())};
}

}  // namespace lbrd::unwind
