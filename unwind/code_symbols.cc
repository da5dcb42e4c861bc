#include "unwind/code_symbols.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace lbrd::unwind {
namespace {

// Of a segment in a B-tree that is three quarters full, without its past.
constexpr size_t kSegmentBytes = 64;

std::atomic<uint64_t> next_id{1};

}  // namespace

bool CodeBudget::Take(size_t bytes) {
  if (used_.fetch_add(bytes, std::memory_order_relaxed) + bytes <= bytes_) return true;
  Return(bytes);
  return false;
}

bool CodeSymbols::Charge(size_t bytes) {
  if (!budget_->Take(bytes)) {
    ++refused_;
    return false;
  }
  charged_ += bytes;
  return true;
}

void CodeSymbols::Account(size_t bytes) {
  budget_->Use(bytes);
  charged_ += bytes;
}

void CodeSymbols::Clear() {
  segments_.clear();
  codes_.clear();
  files_.clear();
  budget_->Return(std::exchange(charged_, 0));
}

std::optional<uint32_t> CodeSymbols::AddFile(absl::string_view path) {
  if (files_.size() >= kMaxFiles || !Charge(2 * (sizeof(std::string) + path.size())))
    return std::nullopt;
  files_.emplace_back(path);
  return static_cast<uint32_t>(files_.size() - 1);
}

bool CodeSymbols::Add(uint64_t start, uint64_t size, absl::string_view name, uint64_t time_ns,
                      std::vector<CodeLine> lines) {
  if (size == 0 || start + size < start) return false;
  if (codes_.size() >= kNoCode ||
      !Charge(sizeof(Code) + name.size() + lines.size() * sizeof(CodeLine))) {
    return false;
  }
  codes_.push_back({.id = next_id.fetch_add(1, std::memory_order_relaxed),
                    .start = start,
                    .size = size,
                    .name = std::string(name),
                    .lines = std::move(lines)});
  Put(start, start + size, {time_ns, static_cast<uint32_t>(codes_.size() - 1)});
  return true;
}

bool CodeSymbols::Move(uint64_t from, uint64_t to, uint64_t time_ns) {
  const Code* code = CodeAt(from, time_ns);
  if (code == nullptr || code->start != from) return false;
  const Code moved = *code;
  std::vector<CodeLine> lines = moved.lines;
  for (CodeLine& line : lines) line.address += to - from;
  Remove(from, moved.size, time_ns);
  return Add(to, moved.size, moved.name, time_ns, std::move(lines));
}

void CodeSymbols::Remove(uint64_t start, uint64_t size, uint64_t time_ns) {
  if (size == 0 || start + size < start || !Charge(kSegmentBytes)) return;
  Put(start, start + size, {time_ns, kNoCode});
}

void CodeSymbols::SplitAt(uint64_t address) {
  auto after = segments_.upper_bound(address);
  if (after == segments_.begin()) return;
  const auto at = std::prev(after);
  if (at->first == address || at->second.end <= address) return;
  Segment tail = at->second;
  Account(kSegmentBytes + tail.versions.size() * sizeof(Version));
  at->second.end = address;
  segments_.emplace_hint(after, address, std::move(tail));
}

void CodeSymbols::Insert(Segment& segment, Version version) {
  auto after =
      std::upper_bound(segment.versions.begin(), segment.versions.end(), version,
                       [](const Version& a, const Version& b) { return a.time_ns < b.time_ns; });
  if (after != segment.versions.begin() && std::prev(after)->time_ns == version.time_ns) {
    *std::prev(after) = version;
    return;
  }
  segment.versions.insert(after, version);
  Account(2 * sizeof(Version));  // a vector has room for twice what it holds
  if (segment.versions.size() > kMaxVersions) segment.versions.erase(segment.versions.begin());
}

void CodeSymbols::Put(uint64_t start, uint64_t end, Version version) {
  SplitAt(start);
  SplitAt(end);
  auto first = segments_.lower_bound(start);
  auto last = first;
  size_t covered = 0;
  while (last != segments_.end() && last->first < end && covered <= kMaxCovered) {
    ++last;
    ++covered;
  }
  if (covered > kMaxCovered) {
    // So that whoever makes up pieces cannot make each of them cost as much as all before.
    segments_.erase(first, segments_.lower_bound(end));
    segments_.emplace(start, Segment{end, {version}});
    Account(kSegmentBytes);
    return;
  }
  for (uint64_t at = start; at < end;) {
    auto segment = segments_.lower_bound(at);
    if (segment == segments_.end() || segment->first > at) {
      const uint64_t gap_end = segment == segments_.end() ? end : std::min(end, segment->first);
      segments_.emplace_hint(segment, at, Segment{gap_end, {version}});
      Account(kSegmentBytes);
      at = gap_end;
    } else {
      Insert(segment->second, version);
      at = segment->second.end;
    }
  }
}

const CodeSymbols::Code* CodeSymbols::CodeAt(uint64_t address, uint64_t time_ns) const {
  const auto after = segments_.upper_bound(address);
  if (after == segments_.begin()) return nullptr;
  const Segment& segment = std::prev(after)->second;
  if (address >= segment.end) return nullptr;
  const auto later = std::upper_bound(
      segment.versions.begin(), segment.versions.end(), time_ns,
      [](uint64_t value, const Version& version) { return value < version.time_ns; });
  if (later == segment.versions.begin()) return nullptr;
  const uint32_t code = std::prev(later)->code;
  return code == kNoCode ? nullptr : &codes_[code];
}

std::optional<CodeSymbol> CodeSymbols::Find(uint64_t address, uint64_t time_ns) const {
  const Code* code = CodeAt(address, time_ns);
  if (code == nullptr) return std::nullopt;
  CodeSymbol symbol{.id = code->id, .name = code->name, .start = code->start, .size = code->size};
  const auto next =
      std::upper_bound(code->lines.begin(), code->lines.end(), address,
                       [](uint64_t value, const CodeLine& line) { return value < line.address; });
  if (next != code->lines.begin()) {
    symbol.file = files_[std::prev(next)->file];
    symbol.line = std::prev(next)->line;
  }
  return symbol;
}

}  // namespace lbrd::unwind
