#include "unwind/binary.h"

#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "unwind/debug_file.h"
#include "unwind/eh_frame_index.h"
#include "unwind/jit_code.h"

namespace lbrd::unwind {
namespace {

// What the kernel maps without a file behind it. Nothing to open.
bool NoFile(absl::string_view path) {
  return path.empty() || absl::StartsWith(path, "//anon") || absl::StartsWith(path, "[heap") ||
         absl::StartsWith(path, "[stack") || absl::StartsWith(path, "[vsyscall") ||
         absl::StartsWith(path, "/dev/zero") || absl::StartsWith(path, "/memfd:") ||
         absl::StartsWith(path, "[anon") || absl::StartsWith(path, "/SYSV");
}

// Why something is missing, and what was tried farther away, if anything was.
std::string WithTried(std::string why, const absl::Status& tried) {
  if (tried.ok() || absl::IsUnimplemented(tried)) return why;
  return absl::StrCat(why, "; ", tried.message());
}

}  // namespace

Binary::Binary(FileIdentity identity, std::string problem)
    : identity_(std::move(identity)), problem_(std::move(problem)) {}

Binary::Binary(FileIdentity identity, std::string problem, FileSource* files)
    : identity_(std::move(identity)),
      files_(files),
      may_fetch_(true),
      problem_(std::move(problem)) {}

Binary::Binary(FileIdentity identity, ElfFile elf, FileSource* files, int32_t pid)
    : identity_(std::move(identity)), files_(files), pid_(pid), elf_(std::move(elf)) {
  if (identity_.build_id.empty()) identity_.build_id = elf_->build_id();
}

bool Binary::has_file() const { return !NoFile(identity_.path); }

const std::string& Binary::build_id() const {
  // One that a recording tells of apart from the mapping is seen in the file that it leads to.
  return identity_.build_id.empty() && readable() ? elf()->build_id() : identity_.build_id;
}

const std::string& Binary::problem() const {
  elf();
  return problem_;
}

void Binary::Fetch() const {
  absl::StatusOr<std::shared_ptr<const ByteSource>> bytes = files_->Fetch(identity_);
  if (!bytes.ok()) {
    problem_ = WithTried(std::move(problem_), bytes.status());
    return;
  }
  absl::StatusOr<ElfFile> elf = ElfFile::Parse(*std::move(bytes));
  if (elf.ok()) {
    elf_ = *std::move(elf);
    problem_.clear();
  } else {
    problem_ = std::string(elf.status().message());
  }
}

std::optional<uint64_t> Binary::AddressOfOffset(uint64_t offset) const {
  return readable() ? elf()->AddressOfOffset(offset) : std::nullopt;
}

void Binary::LoadSymbols() const {
  if (!readable()) {
    symbols_problem_ = problem();
    return;
  }
  std::optional<ElfFile> debug = FindDebugFile(*elf(), path(), *files_, pid_);
  if (!debug.has_value()) {
    // Function symbols only, which a debug file has too.
    absl::StatusOr<ElfFile> mini = ReadMiniDebugInfo(*elf());
    if (mini.ok()) debug = *std::move(mini);
  }
  std::string missing = "stripped, and no debug file is installed";
  // What is here has all the names that a debug file would have.
  if (!debug.has_value() && elf()->FindSection(".symtab") == nullptr) {
    absl::StatusOr<ElfFile> fetched = FetchDebugFile(*elf(), path(), *files_);
    missing = WithTried(std::move(missing), fetched.status());
    if (fetched.ok()) debug = *std::move(fetched);
  }
  absl::StatusOr<SymbolTable> table =
      SymbolTable::Build(*elf(), debug.has_value() ? &*debug : nullptr);
  if (!table.ok()) {
    symbols_problem_ = std::string(table.status().message());
  } else if (table->size() == 0) {
    symbols_problem_ = std::move(missing);
  } else {
    symbols_ = *std::move(table);
  }
}

std::optional<ElfFile> Binary::DebugInfoFile() const {
  if (!readable()) return std::nullopt;
  const auto has_dwarf = [](const ElfFile& file) {
    return file.FindSection(".debug_info") != nullptr;
  };
  if (has_dwarf(*elf())) return *elf();
  std::optional<ElfFile> here = FindDebugFile(*elf(), path(), *files_, pid_);
  if (here.has_value() && has_dwarf(*here)) return here;
  absl::StatusOr<ElfFile> fetched = FetchDebugFile(*elf(), path(), *files_);
  if (fetched.ok()) return *std::move(fetched);
  return here;
}

void Binary::LoadUnwindInfo() const {
  if (!readable()) return;
  UnwindInfo info;
  if (const ElfSection* frames = elf()->FindSection(".eh_frame")) {
    absl::StatusOr<std::vector<std::byte>> bytes = elf()->Read(*frames);
    if (bytes.ok()) {
      info.frames_address = frames->address;
      info.frames = *std::move(bytes);
    }
  }
  // The header by its segment, since stripped files may have no sections.
  const std::optional<ElfSegment> segment = elf()->eh_frame_hdr();
  if (segment.has_value() && segment->file_size <= ElfFile::kMaxSectionBytes &&
      segment->offset <= elf()->bytes()->size() &&
      segment->file_size <= elf()->bytes()->size() - segment->offset) {
    info.header_address = segment->address;
    info.header.resize(segment->file_size);
    if (!elf()->bytes()->ReadAt(segment->offset, info.header).ok()) info.header.clear();
  } else if (!info.frames.empty()) {
    // Made here, and put right behind the frames, where nothing that unwinding reads can stand.
    info.header_address = info.frames_address + info.frames.size();
    info.header = BuildEhFrameHeader(info.frames, info.frames_address, info.header_address);
    // For the last function libunwind also reads the address of the next one, behind the table:
    // there must be something, or that function has no call frame information.
    if (!info.header.empty()) info.header.resize(info.header.size() + sizeof(uint32_t));
  }
  if (!info.header.empty()) unwind_ = std::move(info);
}

const std::string& Binary::symbols_problem() const {
  absl::call_once(symbols_once_, &Binary::LoadSymbols, this);
  return symbols_problem_;
}

std::optional<Symbol> Binary::FindSymbol(uint64_t address) const {
  absl::call_once(symbols_once_, &Binary::LoadSymbols, this);
  return symbols_.has_value() ? symbols_->Find(address) : std::nullopt;
}

const Binary::UnwindInfo* Binary::unwind_info() const {
  absl::call_once(unwind_once_, &Binary::LoadUnwindInfo, this);
  return unwind_.has_value() ? &*unwind_ : nullptr;
}

bool Binary::ReadMemory(uint64_t address, std::span<std::byte> out) const {
  const auto read_from = [&](uint64_t start, const std::vector<std::byte>& bytes) {
    if (address < start || address - start > bytes.size() ||
        bytes.size() - (address - start) < out.size()) {
      return false;
    }
    std::memcpy(out.data(), bytes.data() + (address - start), out.size());
    return true;
  };
  if (const UnwindInfo* info = unwind_info()) {
    if (read_from(info->header_address, info->header)) return true;
    if (read_from(info->frames_address, info->frames)) return true;
  }
  if (!readable()) return false;
  const std::optional<uint64_t> offset = elf()->OffsetOfAddress(address);
  return offset.has_value() && elf()->bytes()->ReadAt(*offset, out).ok();
}

std::shared_ptr<const Binary> BinaryCache::Load(int32_t pid, const FileIdentity& identity,
                                                std::span<const int32_t> elders, bool* gone) {
  if (NoFile(identity.path)) {
    return std::make_shared<Binary>(identity,
                                    "made at run time, and no perf map or jitdump names it");
  }
  absl::StatusOr<std::shared_ptr<const ByteSource>> bytes = files_->Open(pid, identity);
  *gone = absl::IsUnavailable(bytes.status());
  for (size_t i = 0; i < elders.size() && elders[i] >= 0 && absl::IsUnavailable(bytes.status());
       ++i) {
    bytes = files_->Open(elders[i], identity);
    if (bytes.ok()) pid = elders[i];
  }
  if (!bytes.ok()) {
    // Not yet: most of what is mapped is in no stack.
    return std::make_shared<Binary>(identity, std::string(bytes.status().message()), files_);
  }
  absl::StatusOr<ElfFile> elf = ElfFile::Parse(*std::move(bytes));
  if (!elf.ok()) return std::make_shared<Binary>(identity, std::string(elf.status().message()));
  return std::make_shared<Binary>(identity, *std::move(elf), files_, pid);
}

std::shared_ptr<const Binary> BinaryCache::Unify(std::shared_ptr<const Binary> loaded) {
  if (!loaded->opened() || loaded->build_id().empty()) return loaded;
  std::weak_ptr<const Binary>& known =
      by_content_[absl::StrCat(loaded->path(), "\n", loaded->build_id())];
  if (std::shared_ptr<const Binary> same = known.lock()) return same;
  known = loaded;
  return loaded;
}

std::shared_ptr<JitCode> BinaryCache::NewJitCode(int32_t pid, std::shared_ptr<JitCode> inherited) {
  return std::make_shared<JitCode>(files_, &jit_budget_, pid, std::move(inherited));
}

std::shared_ptr<const Binary> BinaryCache::Get(int32_t pid, const FileIdentity& identity,
                                               std::span<const int32_t> elders) {
  {
    absl::MutexLock lock(&mutex_);
    const auto found = entries_.find(identity);
    if (found != entries_.end()) {
      by_age_.splice(by_age_.begin(), by_age_, found->second.age);
      if (found->second.tries_left == 0) return found->second.binary;
      --found->second.tries_left;
    }
  }
  // Not under the lock: it reads files. Two may load the same one; the first to be back wins.
  bool gone = false;
  std::shared_ptr<const Binary> loaded = Load(pid, identity, elders, &gone);
  absl::MutexLock lock(&mutex_);
  const auto found = entries_.find(identity);
  if (found != entries_.end()) {
    Entry& entry = found->second;
    if (loaded->opened() && !entry.binary->opened()) {
      entry.binary = Unify(std::move(loaded));
      entry.tries_left = 0;
    }
    return entry.binary;
  }
  loaded = Unify(std::move(loaded));
  by_age_.push_front(identity);
  entries_.emplace(identity,
                   Entry{loaded, by_age_.begin(), gone && !loaded->opened() ? kTries : 0});
  while (entries_.size() > capacity_) {
    entries_.erase(by_age_.back());
    by_age_.pop_back();
  }
  if (by_content_.size() > 2 * capacity_) {
    absl::erase_if(by_content_, [](const auto& known) { return known.second.expired(); });
  }
  return loaded;
}

}  // namespace lbrd::unwind
