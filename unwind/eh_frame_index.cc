#include "unwind/eh_frame_index.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "absl/container/flat_hash_map.h"

namespace lbrd::unwind {
namespace {

// DW_EH_PE_…: the low four bits say how a pointer is stored, the next three what it is relative to.
constexpr uint8_t kAbsolute = 0x00;
constexpr uint8_t kUnsigned4 = 0x03;
constexpr uint8_t kSigned4 = 0x0b;
constexpr uint8_t kSigned8 = 0x0c;
constexpr uint8_t kPcRelative = 0x10;

// Reads forward; what does not fit makes it not ok.
class Cursor {
 public:
  explicit Cursor(std::span<const std::byte> bytes) : bytes_(bytes) {}
  template <typename T>
  T Read() {
    T value{};
    if (bytes_.size() - at_ < sizeof(T)) {
      ok_ = false;
      at_ = bytes_.size();
      return value;
    }
    std::memcpy(&value, bytes_.data() + at_, sizeof(T));
    at_ += sizeof(T);
    return value;
  }
  uint64_t ReadLeb() {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && ok_; shift += 7) {
      const auto byte = Read<uint8_t>();
      value |= uint64_t{byte & 0x7fu} << shift;
      if ((byte & 0x80) == 0) return value;
    }
    return value;
  }
  bool ok() const { return ok_; }
  size_t at() const { return at_; }

 private:
  std::span<const std::byte> bytes_;
  size_t at_ = 0;
  bool ok_ = true;
};

// How a CIE's FDEs store their function's address; nullopt: it cannot be told.
std::optional<uint8_t> PointerEncoding(std::span<const std::byte> cie) {
  Cursor in(cie);
  in.Read<uint32_t>();  // id
  const auto version = in.Read<uint8_t>();
  char augmentation[8] = {};
  for (size_t i = 0; i < sizeof(augmentation); ++i) {
    augmentation[i] = in.Read<char>();
    if (augmentation[i] == 0) break;
  }
  if (!in.ok() || augmentation[sizeof(augmentation) - 1] != 0) return std::nullopt;
  if (augmentation[0] == 0) return kAbsolute;
  if (augmentation[0] != 'z') return std::nullopt;
  in.ReadLeb();  // code alignment
  in.ReadLeb();  // data alignment: signed, but of the same length
  if (version == 1) {
    in.Read<uint8_t>();  // return address register
  } else {
    in.ReadLeb();
  }
  in.ReadLeb();  // augmentation length
  for (const char* letter = augmentation + 1; *letter != 0; ++letter) {
    if (*letter == 'R') {
      const auto encoding = in.Read<uint8_t>();
      return in.ok() ? std::optional<uint8_t>(encoding) : std::nullopt;
    }
    if (*letter == 'L') {
      in.Read<uint8_t>();
    } else if (*letter == 'P') {
      // The personality routine: its encoding, then a pointer of that size.
      const auto encoding = in.Read<uint8_t>();
      const uint8_t size = encoding & 0x0f;
      if (size == kUnsigned4 || size == kSigned4) {
        in.Read<uint32_t>();
      } else if (size == kAbsolute || size == kSigned8 || size == 0x04) {
        in.Read<uint64_t>();
      } else {
        return std::nullopt;
      }
    } else if (*letter != 'S' && *letter != 'B') {
      return std::nullopt;
    }
  }
  return kAbsolute;
}

std::optional<uint64_t> ReadPointer(std::span<const std::byte> bytes, uint8_t encoding,
                                    uint64_t address) {
  Cursor in(bytes);
  uint64_t value = 0;
  switch (encoding & 0x0f) {
    case kAbsolute:
    case 0x04:
    case kSigned8:
      value = in.Read<uint64_t>();
      break;
    case kUnsigned4:
      value = in.Read<uint32_t>();
      break;
    case kSigned4:
      value = static_cast<uint64_t>(int64_t{in.Read<int32_t>()});
      break;
    default:
      return std::nullopt;
  }
  if (!in.ok()) return std::nullopt;
  const uint8_t relative = encoding & 0x70;
  if (relative == kPcRelative) return value + address;
  return relative == 0 ? std::optional<uint64_t>(value) : std::nullopt;
}

struct Entry {
  int32_t function;
  int32_t fde;
};

// Relative to the header; nullopt: too far away for 4 bytes.
std::optional<int32_t> Relative(uint64_t address, uint64_t header_address) {
  const auto distance = static_cast<int64_t>(address - header_address);
  if (distance < INT32_MIN || distance > INT32_MAX) return std::nullopt;
  return static_cast<int32_t>(distance);
}

}  // namespace

std::vector<std::byte> BuildEhFrameHeader(std::span<const std::byte> frames,
                                          uint64_t frames_address, uint64_t header_address) {
  std::vector<Entry> entries;
  absl::flat_hash_map<size_t, std::optional<uint8_t>> encodings;  // by the CIE's offset
  size_t at = 0;
  while (frames.size() - at >= 8) {
    uint32_t length;
    std::memcpy(&length, frames.data() + at, sizeof(length));
    const size_t body = at + sizeof(length);
    // A terminator; static links may leave some between objects' parts.
    if (length == 0) {
      at = body;
      continue;
    }
    if (length < 4 || length > frames.size() - body) break;
    const std::span<const std::byte> content = frames.subspan(body, length);
    uint32_t id;
    std::memcpy(&id, content.data(), sizeof(id));
    if (id == 0) {
      encodings[at] = PointerEncoding(content);
    } else if (id <= body) {
      const auto cie = encodings.find(body - id);
      if (cie != encodings.end() && cie->second.has_value()) {
        const uint64_t pointer_address = frames_address + body + sizeof(id);
        const std::optional<uint64_t> function =
            ReadPointer(content.subspan(sizeof(id)), *cie->second, pointer_address);
        if (function.has_value()) {
          const std::optional<int32_t> from = Relative(*function, header_address);
          const std::optional<int32_t> fde = Relative(frames_address + at, header_address);
          if (from.has_value() && fde.has_value()) entries.push_back({*from, *fde});
        }
      }
    }
    at = body + length;
  }
  const std::optional<int32_t> frames_pointer = Relative(frames_address, header_address + 4);
  if (entries.empty() || !frames_pointer.has_value()) return {};
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.function < b.function; });

  std::vector<std::byte> header(12 + entries.size() * sizeof(Entry));
  // Version; pc-relative 4-byte pointer; 4-byte count; table entries of 4 bytes, header-relative.
  constexpr uint8_t kPrefix[4] = {1, 0x1b, 0x03, 0x3b};
  const auto count = static_cast<uint32_t>(entries.size());
  std::memcpy(header.data(), kPrefix, sizeof(kPrefix));
  std::memcpy(header.data() + 4, &*frames_pointer, 4);
  std::memcpy(header.data() + 8, &count, sizeof(count));
  std::memcpy(header.data() + 12, entries.data(), entries.size() * sizeof(Entry));
  return header;
}

}  // namespace lbrd::unwind
