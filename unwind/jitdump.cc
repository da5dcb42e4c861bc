#include "unwind/jitdump.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <span>
#include <utility>

namespace lbrd::unwind {
namespace {

constexpr uint32_t kMagic = 0x4a695444;  // "JiTD" on a little-endian machine
constexpr uint64_t kCpuTimeFlag = 1;
constexpr uint64_t kElfHeaderBytes = 64;

enum : uint32_t { kLoad = 0, kMove = 1, kDebugInfo = 2, kClose = 3 };

struct FileHeader {
  uint32_t magic;
  uint32_t version;
  uint32_t size;
  uint32_t machine;
  uint32_t padding;
  uint32_t pid;
  uint64_t time;
  uint64_t flags;
};
static_assert(sizeof(FileHeader) == 40);

struct RecordHeader {
  uint32_t id;
  uint32_t size;
  uint64_t time;
};

struct LoadRecord {
  uint32_t pid;
  uint32_t tid;
  uint64_t vma;
  uint64_t address;
  uint64_t size;
  uint64_t index;
};

struct MoveRecord {
  uint32_t pid;
  uint32_t tid;
  uint64_t vma;
  uint64_t old_address;
  uint64_t new_address;
  uint64_t size;
  uint64_t index;
};

struct DebugEntry {
  uint64_t address;
  uint32_t line;
  uint32_t discriminator;
};

template <typename T>
std::optional<T> Get(std::span<const std::byte> bytes) {
  if (bytes.size() < sizeof(T)) return std::nullopt;
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

absl::string_view TextAt(std::span<const std::byte> bytes) {
  const char* text = reinterpret_cast<const char*>(bytes.data());
  return {text, strnlen(text, bytes.size())};
}

}  // namespace

bool JitDumpReader::ReadFileHeader(const ByteSource& file) {
  FileHeader header;
  if (file.size() < sizeof header ||
      !file.ReadAt(0, std::as_writable_bytes(std::span(&header, 1))).ok()) {
    return false;
  }
  if (header.magic != kMagic || header.size < sizeof header || header.version == 0) {
    broken_ = true;
    ++malformed_;
    return false;
  }
  cpu_time_ = (header.flags & kCpuTimeFlag) != 0;
  next_ = header.size;
  return true;
}

void JitDumpReader::Read(const ByteSource& file, CodeSymbols* out) {
  if (next_ == 0 && (broken_ || !ReadFileHeader(file))) return;
  for (int i = 0; i < kMaxRecords && !broken_ && ReadRecord(file, out); ++i) {
  }
}

// False: there is none (yet).
bool JitDumpReader::ReadRecord(const ByteSource& file, CodeSymbols* out) {
  const uint64_t size = file.size();
  RecordHeader header;
  if (next_ > size || size - next_ < sizeof header ||
      !file.ReadAt(next_, std::as_writable_bytes(std::span(&header, 1))).ok()) {
    return false;
  }
  if (header.size < sizeof header) {
    broken_ = true;
    ++malformed_;
    return false;
  }
  if (size - next_ < header.size) return false;  // being written
  size_t most = 0;
  if (header.id == kLoad) most = sizeof(LoadRecord) + kMaxNameBytes;
  if (header.id == kMove) most = sizeof(MoveRecord);
  if (header.id == kDebugInfo) most = kMaxDebugInfoBytes;
  std::vector<std::byte> payload(std::min<size_t>(most, header.size - sizeof header));
  if (!payload.empty() && !file.ReadAt(next_ + sizeof header, payload).ok()) return false;
  next_ += header.size;
  const uint64_t time_ns = cpu_time_ ? 0 : header.time;
  if (header.id == kLoad) Load(payload, time_ns, out);
  if (header.id == kMove) Move(payload, time_ns, out);
  if (header.id == kDebugInfo) DebugInfo(payload, out);
  // A close says no more than the file's end does.
  return true;
}

void JitDumpReader::Load(const std::vector<std::byte>& payload, uint64_t time_ns,
                         CodeSymbols* out) {
  const std::optional<LoadRecord> load = Get<LoadRecord>(payload);
  if (!load.has_value()) {
    ++malformed_;
    return;
  }
  const absl::string_view name = TextAt(std::span(payload).subspan(sizeof(LoadRecord)));
  std::vector<CodeLine> lines;
  if (load->address == lines_of_) lines = std::exchange(lines_, {});
  // V8 (of Node.js 20) sometimes writes names from memory that it has freed, with which entries are
  // no entries.
  const auto in_code = [&](const CodeLine& line) {
    return line.address - load->address <= load->size;
  };
  if (!std::all_of(lines.begin(), lines.end(), in_code)) {
    ++malformed_;
    lines.clear();
  }
  out->Add(load->address, load->size, name, time_ns, std::move(lines));
}

void JitDumpReader::Move(const std::vector<std::byte>& payload, uint64_t time_ns,
                         CodeSymbols* out) {
  const std::optional<MoveRecord> move = Get<MoveRecord>(payload);
  if (!move.has_value()) {
    ++malformed_;
    return;
  }
  out->Move(move->old_address, move->new_address, time_ns);
}

void JitDumpReader::DebugInfo(const std::vector<std::byte>& payload, CodeSymbols* out) {
  struct Head {
    uint64_t address;
    uint64_t entries;
  };
  const std::optional<Head> head = Get<Head>(payload);
  if (!head.has_value()) {
    ++malformed_;
    return;
  }
  lines_of_ = head->address;
  lines_.clear();
  std::span<const std::byte> rest = std::span(payload).subspan(sizeof(Head));
  std::optional<uint32_t> file;
  for (uint64_t i = 0; i < head->entries; ++i) {
    const std::optional<DebugEntry> entry = Get<DebugEntry>(rest);
    if (!entry.has_value()) {
      ++malformed_;
      lines_.clear();
      return;
    }
    rest = rest.subspan(sizeof(DebugEntry));
    const absl::string_view path = TextAt(rest);
    rest = rest.subspan(std::min(path.size() + 1, rest.size()));
    // A name of this one byte: the same file as the entry before.
    if (path != "\xff") {
      const std::string key(path.substr(0, kMaxNameBytes));
      const auto known = files_.find(key);
      file = known != files_.end() ? known->second : out->AddFile(key);
      if (file.has_value()) files_[key] = *file;
    }
    if (file.has_value()) lines_.push_back({entry->address, *file, entry->line});
  }
  std::stable_sort(lines_.begin(), lines_.end(),
                   [](const CodeLine& a, const CodeLine& b) { return a.address < b.address; });
  if (!lines_.empty() && lines_.front().address >= lines_of_ + kElfHeaderBytes) {
    for (CodeLine& line : lines_) line.address -= kElfHeaderBytes;
  }
}

}  // namespace lbrd::unwind
