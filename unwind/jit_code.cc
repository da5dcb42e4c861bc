#include "unwind/jit_code.h"

#include <algorithm>
#include <span>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"

namespace lbrd::unwind {
namespace {

constexpr size_t kPieceBytes = 256 << 10;
// Forks of forks that each made code of their own.
constexpr int kMaxInherited = 4;

}  // namespace

bool IsJitDump(absl::string_view path) {
  absl::string_view name = path.substr(path.rfind('/') + 1);
  if (!absl::StartsWith(name, "jit-") || !absl::EndsWith(name, ".dump")) return false;
  name.remove_prefix(4);
  name.remove_suffix(5);
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return absl::ascii_isdigit(static_cast<unsigned char>(c));
  });
}

JitCode::JitCode(FileSource* files, CodeBudget* budget, int32_t pid,
                 std::shared_ptr<JitCode> inherited)
    : files_(files),
      budget_(budget),
      pid_(pid),
      inherited_(std::move(inherited)),
      map_symbols_(budget) {}

void JitCode::AddDump(const FileIdentity& file) {
  const auto same = [&](const auto& dump) { return dump->path == file.path; };
  if (dumps_.size() >= kMaxDumps || std::any_of(dumps_.begin(), dumps_.end(), same)) return;
  absl::StatusOr<std::shared_ptr<const ByteSource>> opened = files_->Open(pid_, file);
  if (!opened.ok()) return;
  dumps_.push_back(std::unique_ptr<Dump>(
      new Dump{file.path, *std::move(opened), JitDumpReader(), CodeSymbols(budget_)}));
  next_look_ns_ = 0;
}

void JitCode::OpenMap(uint64_t time_ns) {
  if (map_ != nullptr || time_ns < next_open_ns_) return;
  absl::StatusOr<std::shared_ptr<const ByteSource>> opened = files_->OpenPerfMap(pid_, &map_path_);
  if (opened.ok()) {
    map_ = *std::move(opened);
    return;
  }
  next_open_ns_ = time_ns + open_wait_ns_;
  open_wait_ns_ = std::min(2 * open_wait_ns_, kMaxWaitNs);
}

void JitCode::ReadMap() {
  const uint64_t size = map_->size();
  if (size < map_read_) {
    // Begun anew, by another program that the process executed.
    map_symbols_.Clear();
    map_reader_ = PerfMapReader();
    map_read_ = 0;
  }
  const uint64_t end = std::min(size, map_read_ + kMaxReadBytes);
  std::vector<std::byte> piece(std::min<uint64_t>(kPieceBytes, end - map_read_));
  while (map_read_ < end) {
    const std::span<std::byte> part =
        std::span(piece).first(std::min<uint64_t>(piece.size(), end - map_read_));
    if (!map_->ReadAt(map_read_, part).ok()) return;
    map_reader_.Feed({reinterpret_cast<const char*>(part.data()), part.size()}, &map_symbols_);
    map_read_ += part.size();
  }
}

void JitCode::Refresh(uint64_t time_ns) {
  next_look_ns_ = time_ns + kLookNs;
  for (const auto& dump : dumps_) dump->reader.Read(*dump->file, &dump->symbols);
  OpenMap(time_ns);
  if (map_ != nullptr) ReadMap();
}

std::optional<JitSymbol> JitCode::FindRead(uint64_t address, uint64_t time_ns) const {
  for (const auto& dump : dumps_) {
    if (std::optional<CodeSymbol> code = dump->symbols.Find(address, time_ns)) {
      return JitSymbol{*code, &dump->path};
    }
  }
  if (std::optional<CodeSymbol> code = map_symbols_.Find(address, time_ns)) {
    return JitSymbol{*code, &map_path_};
  }
  return std::nullopt;
}

std::optional<JitSymbol> JitCode::Find(uint64_t address, uint64_t now_ns, uint64_t time_ns) {
  const bool looked = now_ns >= next_look_ns_;
  if (looked) Refresh(now_ns);
  std::optional<JitSymbol> found = FindRead(address, time_ns);
  if (!found.has_value() && !looked) {
    // Made in the last moment.
    Refresh(now_ns);
    found = FindRead(address, time_ns);
  }
  JitCode* inherited = inherited_.get();
  for (int i = 0; !found.has_value() && inherited != nullptr && i < kMaxInherited; ++i) {
    found = inherited->FindRead(address, time_ns);
    inherited = inherited->inherited_.get();
  }
  return found;
}

}  // namespace lbrd::unwind
