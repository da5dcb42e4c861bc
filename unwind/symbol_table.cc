#include "unwind/symbol_table.h"

#include <elf.h>

#include <algorithm>
#include <cstring>
#include <list>
#include <span>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace lbrd::unwind {
namespace {

constexpr absl::string_view kPltSuffix = "@plt";

// How many bytes of names are taken from a string table. Names may overlap in it: linkers share
// tails, but never so much, while a hostile file could name a million symbols by one long string.
class NameBudget {
 public:
  explicit NameBudget(uint64_t string_table_bytes) : left_(string_table_bytes * 4 + (64 << 10)) {}
  bool Take(uint64_t bytes) {
    if (bytes > left_) return false;
    left_ -= bytes;
    return true;
  }

 private:
  uint64_t left_;
};

struct Candidate {
  uint64_t start;
  uint64_t end;    // == start: the file gives no size
  uint64_t limit;  // end of the section
  absl::string_view name;
  uint8_t rank;  // less is better
  bool plt;
};

size_t LeadingUnderscores(absl::string_view name) {
  return std::min(name.find_first_not_of('_'), name.size());
}

// By address, and the best name of each address first.
bool Before(const Candidate& a, const Candidate& b) {
  if (a.start != b.start) return a.start < b.start;
  if (a.rank != b.rank) return a.rank < b.rank;
  return std::tuple(LeadingUnderscores(a.name), a.name.size(), a.name) <
         std::tuple(LeadingUnderscores(b.name), b.name.size(), b.name);
}

// Without "@VERSION" or "@@VERSION", which linkers append to names in .symtab.
absl::string_view WithoutVersion(absl::string_view name) {
  const size_t at = name.find('@');
  if (at == 0 || at == absl::string_view::npos || name.front() == '?') return name;
  return name.substr(0, at);
}

bool IsMappingSymbol(absl::string_view name) {
  return absl::StartsWith(name, "$") || absl::StartsWith(name, ".L");
}

// Whether it names code; the section has been found executable.
bool IsFunction(const Elf64_Sym& symbol, absl::string_view name) {
  switch (ELF64_ST_TYPE(symbol.st_info)) {
    case STT_FUNC:
    case STT_GNU_IFUNC:
      return true;
    case STT_NOTYPE:
      // Hand-written assembly often has no type and no size; local ones of these are jump labels.
      return !IsMappingSymbol(name) &&
             (symbol.st_size > 0 || ELF64_ST_BIND(symbol.st_info) != STB_LOCAL);
    default:
      return false;
  }
}

uint8_t RankOf(const Elf64_Sym& symbol) {
  const uint8_t label = ELF64_ST_TYPE(symbol.st_info) == STT_NOTYPE ? 3 : 0;
  switch (ELF64_ST_BIND(symbol.st_info)) {
    case STB_LOCAL:
      return label + 2;
    case STB_WEAK:
      return label + 1;
    default:
      return label;
  }
}

template <typename T>
T Load(std::span<const std::byte> bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

// nullopt: the name is not within the table.
std::optional<absl::string_view> NameAt(std::span<const std::byte> strings, uint64_t offset) {
  if (offset >= strings.size()) return std::nullopt;
  const char* name = reinterpret_cast<const char*>(strings.data()) + offset;
  const void* end = std::memchr(name, '\0', strings.size() - offset);
  if (end == nullptr) return std::nullopt;
  return absl::string_view(name, static_cast<const char*>(end) - name);
}

// Which executable section holds an address.
class CodeSections {
 public:
  explicit CodeSections(const ElfFile& file) {
    constexpr uint64_t kCode = SHF_ALLOC | SHF_EXECINSTR;
    for (const ElfSection& section : file.sections()) {
      if ((section.flags & kCode) == kCode && section.address + section.size > section.address) {
        ranges_.emplace_back(section.address, section.address + section.size);
      }
    }
    std::sort(ranges_.begin(), ranges_.end());
  }

  // The end of the section; nullopt: none holds `address`.
  std::optional<uint64_t> EndOf(uint64_t address) const {
    const auto after =
        std::upper_bound(ranges_.begin(), ranges_.end(), std::pair(address, UINT64_MAX));
    if (after == ranges_.begin() || address >= std::prev(after)->second) return std::nullopt;
    return std::prev(after)->second;
  }

 private:
  std::vector<std::pair<uint64_t, uint64_t>> ranges_;
};

// Collects what the files say; owns the bytes that the names are in.
class SymbolReader {
 public:
  absl::Status ReadTable(const ElfFile& file, absl::string_view table_name) {
    const ElfSection* table = file.FindSection(table_name);
    // NOBITS: a debug file keeps the header of a .dynsym that stayed with the binary.
    if (table == nullptr || table->type == SHT_NOBITS) return absl::OkStatus();
    const absl::StatusOr<Strings*> read = ReadWithStrings(file, *table);
    if (!read.ok()) return read.status();
    Strings* const symbols = *read;

    const CodeSections code(file);
    NameBudget budget(symbols->strings.size());
    const size_t count = symbols->table.size() / sizeof(Elf64_Sym);
    // Room that is not used is never touched, and to grow costs twice the memory.
    candidates_.reserve(candidates_.size() + std::min(count, kMaxReserved));
    for (size_t i = 0; i < count; ++i) {
      const auto symbol = Load<Elf64_Sym>(symbols->table, i * sizeof(Elf64_Sym));
      if (symbol.st_value == 0 || symbol.st_shndx == SHN_UNDEF ||
          (symbol.st_shndx >= SHN_LORESERVE && symbol.st_shndx != SHN_XINDEX)) {
        continue;
      }
      const std::optional<uint64_t> limit = code.EndOf(symbol.st_value);
      if (!limit.has_value()) continue;
      const std::optional<absl::string_view> name = NameAt(symbols->strings, symbol.st_name);
      if (!name.has_value() || name->empty() || !IsFunction(symbol, *name)) continue;
      if (!budget.Take(name->size()) || candidates_.size() >= SymbolTable::kMaxSymbols) {
        return absl::ResourceExhaustedError(
            absl::StrCat(table_name, " holds more symbols than are kept"));
      }
      candidates_.push_back(
          {.start = symbol.st_value,
           .end = symbol.st_value + std::min<uint64_t>(symbol.st_size, *limit - symbol.st_value),
           .limit = *limit,
           .name = WithoutVersion(*name),
           .rank = RankOf(symbol),
           .plt = false});
    }
    // What .dynsym says is asked for again, by PLT entries; of the others only names are.
    if (table_name != ".dynsym") std::vector<std::byte>().swap(symbols->table);
    return absl::OkStatus();
  }

  // One candidate for each address is left, sorted; PLT entries come in.
  std::vector<Candidate> Finish(const ElfFile& binary) {
    std::sort(candidates_.begin(), candidates_.end(), Before);
    size_t kept = 0;
    for (const Candidate& candidate : candidates_) {
      if (kept > 0 && candidates_[kept - 1].start == candidate.start) {
        Candidate& best = candidates_[kept - 1];
        if (best.end == best.start) best.end = candidate.end;
      } else {
        candidates_[kept++] = candidate;
      }
    }
    candidates_.erase(candidates_.begin() + static_cast<ptrdiff_t>(kept), candidates_.end());
    AddPltEntries(binary, kept);
    std::inplace_merge(candidates_.begin(), candidates_.begin() + static_cast<ptrdiff_t>(kept),
                       candidates_.end(), Before);
    // A PLT entry that has a symbol of its own keeps that.
    candidates_.erase(
        std::unique(candidates_.begin(), candidates_.end(),
                    [](const Candidate& a, const Candidate& b) { return a.start == b.start; }),
        candidates_.end());
    return std::move(candidates_);
  }

 private:
  static constexpr size_t kMaxReserved = 1u << 18;

  struct Strings {
    const ElfFile* file = nullptr;
    absl::string_view name;
    std::vector<std::byte> table;
    std::vector<std::byte> strings;  // of what `table` links to
  };

  // What the dynamic linker puts into a slot of the GOT: a named function's address, or that which
  // the resolver at an address returns.
  struct GotSlot {
    absl::string_view name;
    uint64_t resolver = 0;
  };

  // Read once, but for the tables that ReadTable() lets go; lives as long as this.
  absl::StatusOr<Strings*> ReadWithStrings(const ElfFile& file, const ElfSection& table) {
    for (Strings& known : tables_) {
      if (known.file == &file && known.name == table.name) return &known;
    }
    if (table.link >= file.sections().size()) {
      return absl::InvalidArgumentError(absl::StrCat(table.name, " links to no string table"));
    }
    absl::StatusOr<std::vector<std::byte>> bytes = file.Read(table);
    if (!bytes.ok()) return bytes.status();
    absl::StatusOr<std::vector<std::byte>> strings = file.Read(file.sections()[table.link]);
    if (!strings.ok()) return strings.status();
    tables_.push_back({.file = &file,
                       .name = table.name,
                       .table = *std::move(bytes),
                       .strings = *std::move(strings)});
    return &tables_.back();
  }

  absl::flat_hash_map<uint64_t, GotSlot> ReadGotSlots(const ElfFile& file) {
    Strings none;
    const ElfSection* const table = file.FindSection(".dynsym");
    const Strings& symbols =
        *(table != nullptr ? ReadWithStrings(file, *table).value_or(&none) : &none);
    NameBudget budget(symbols.strings.size());
    absl::flat_hash_map<uint64_t, GotSlot> slots;
    for (const absl::string_view name : {".rela.plt", ".rela.dyn", ".rela.iplt"}) {
      const ElfSection* section = file.FindSection(name);
      if (section == nullptr || section->type != SHT_RELA) continue;
      const absl::StatusOr<std::vector<std::byte>> relocations = file.Read(*section);
      if (!relocations.ok()) continue;
      const size_t count = relocations->size() / sizeof(Elf64_Rela);
      for (size_t i = 0; i < count; ++i) {
        const auto relocation = Load<Elf64_Rela>(*relocations, i * sizeof(Elf64_Rela));
        const uint64_t type = ELF64_R_TYPE(relocation.r_info);
        if (type == R_X86_64_IRELATIVE) {
          slots[relocation.r_offset] = {.name = {},
                                        .resolver = static_cast<uint64_t>(relocation.r_addend)};
        } else if (type == R_X86_64_JUMP_SLOT || type == R_X86_64_GLOB_DAT) {
          const uint64_t index = ELF64_R_SYM(relocation.r_info);
          if (index >= symbols.table.size() / sizeof(Elf64_Sym)) continue;
          const auto symbol = Load<Elf64_Sym>(symbols.table, index * sizeof(Elf64_Sym));
          const std::optional<absl::string_view> target = NameAt(symbols.strings, symbol.st_name);
          if (!target.has_value() || target->empty()) continue;
          if (!budget.Take(target->size())) return slots;
          slots[relocation.r_offset] = {.name = WithoutVersion(*target), .resolver = 0};
        }
      }
    }
    return slots;
  }

  // The GOT slot that the PLT entry at `entry` jumps through: `jmp *disp(%rip)`, after an optional
  // endbr64, `mov $imm32, %r11d` (as mold makes them) and bnd prefix. nullopt: it is not such code.
  static std::optional<uint64_t> JumpTarget(std::span<const std::byte> entry, uint64_t address) {
    static constexpr unsigned char kEndbr64[] = {0xf3, 0x0f, 0x1e, 0xfa};
    static constexpr unsigned char kMovR11d[] = {0x41, 0xbb};
    static constexpr unsigned char kBnd[] = {0xf2};
    static constexpr unsigned char kJump[] = {0xff, 0x25};
    size_t at = 0;
    const auto skip = [&](std::span<const unsigned char> code) {
      if (entry.size() - at < code.size() ||
          std::memcmp(entry.data() + at, code.data(), code.size()) != 0) {
        return false;
      }
      at += code.size();
      return true;
    };
    skip(kEndbr64);
    if (skip(kMovR11d)) at = std::min(at + sizeof(uint32_t), entry.size());
    skip(kBnd);
    if (!skip(kJump) || entry.size() - at < sizeof(int32_t)) return std::nullopt;
    const auto displacement = Load<int32_t>(entry, at);
    return address + at + sizeof displacement + static_cast<uint64_t>(int64_t{displacement});
  }

  uint64_t StringBytes() const {
    uint64_t bytes = 0;
    for (const Strings& table : tables_) bytes += table.strings.size();
    return bytes;
  }

  // candidates_[0, sorted) are the symbols, by address.
  absl::string_view NameAtAddress(uint64_t address, size_t sorted) const {
    const auto end = candidates_.begin() + static_cast<ptrdiff_t>(sorted);
    const auto found =
        std::lower_bound(candidates_.begin(), end, address,
                         [](const Candidate& c, uint64_t value) { return c.start < value; });
    return found != end && found->start == address ? found->name : absl::string_view();
  }

  void AddPltEntries(const ElfFile& file, size_t sorted) {
    if (file.machine() != EM_X86_64) return;
    const absl::flat_hash_map<uint64_t, GotSlot> slots = ReadGotSlots(file);
    NameBudget budget(StringBytes());
    for (const absl::string_view section_name : {".plt", ".plt.sec", ".plt.got", ".iplt"}) {
      const ElfSection* section = file.FindSection(section_name);
      if (section == nullptr || section->address + section->size < section->address) continue;
      const absl::StatusOr<std::vector<std::byte>> code = file.Read(*section);
      if (!code.ok()) continue;
      // Entries are 16 bytes or, where they need not be bound lazily, 8; not all linkers say which.
      const uint64_t largest = section->entry_size == 8 ? 8 : 16;
      size_t previous = SIZE_MAX;
      for (uint64_t at = 0; at + 8 <= code->size(); at += 8) {
        const uint64_t start = section->address + at;
        const std::span<const std::byte> entry =
            std::span(*code).subspan(at, std::min(largest, code->size() - at));
        const std::optional<uint64_t> slot = JumpTarget(entry, start);
        const auto found = slot.has_value() ? slots.find(*slot) : slots.end();
        if (found == slots.end() || candidates_.size() >= SymbolTable::kMaxSymbols) continue;
        const absl::string_view name = found->second.name.empty()
                                           ? NameAtAddress(found->second.resolver, sorted)
                                           : found->second.name;
        if (name.empty() || !budget.Take(name.size())) continue;
        if (previous != SIZE_MAX) {
          candidates_[previous].end = std::min(candidates_[previous].end, start);
        }
        previous = candidates_.size();
        candidates_.push_back({.start = start,
                               .end = start + entry.size(),
                               .limit = section->address + section->size,
                               .name = name,
                               .rank = UINT8_MAX,
                               .plt = true});
      }
    }
    std::sort(candidates_.begin() + static_cast<ptrdiff_t>(sorted), candidates_.end(), Before);
  }

  std::vector<Candidate> candidates_;
  std::list<Strings> tables_;
};

}  // namespace

absl::StatusOr<SymbolTable> SymbolTable::Build(const ElfFile& binary, const ElfFile* debug) {
  SymbolReader reader;
  absl::Status problem = reader.ReadTable(binary, ".symtab");
  problem.Update(reader.ReadTable(binary, ".dynsym"));
  if (debug != nullptr) problem.Update(reader.ReadTable(*debug, ".symtab"));
  const std::vector<Candidate> candidates = reader.Finish(binary);
  if (candidates.empty() && !problem.ok()) return problem;

  uint64_t name_bytes = 0;
  for (const Candidate& candidate : candidates) {
    name_bytes += candidate.name.size() + (candidate.plt ? kPltSuffix.size() : 0);
  }
  if (name_bytes > UINT32_MAX) {
    return absl::ResourceExhaustedError("the names of its functions take more than 4 GiB");
  }

  SymbolTable table;
  table.entries_.reserve(candidates.size());
  table.names_.reserve(name_bytes);
  std::vector<uint32_t> open;  // entries that may reach beyond the next start, outermost first
  const auto end_of = [&](uint32_t i) { return table.entries_[i].start + table.entries_[i].size; };
  for (size_t i = 0; i < candidates.size(); ++i) {
    const Candidate& candidate = candidates[i];
    while (!open.empty() && end_of(open.back()) <= candidate.start) open.pop_back();
    uint64_t end = candidate.end;
    if (end == candidate.start) {
      end = candidate.limit;
      if (i + 1 < candidates.size()) end = std::min(end, candidates[i + 1].start);
      if (!open.empty()) end = std::min(end, end_of(open.back()));
    }
    const auto name = static_cast<uint32_t>(table.names_.size());
    absl::StrAppend(&table.names_, candidate.name, candidate.plt ? kPltSuffix : "");
    table.entries_.push_back({.start = candidate.start,
                              .size = end - candidate.start,
                              .name = name,
                              .name_size = static_cast<uint32_t>(table.names_.size() - name),
                              .enclosing = open.empty() ? kNoEntry : open.back()});
    open.push_back(static_cast<uint32_t>(i));
  }
  return table;
}

std::optional<Symbol> SymbolTable::Find(uint64_t address) const {
  const auto after =
      std::upper_bound(entries_.begin(), entries_.end(), address,
                       [](uint64_t value, const Entry& entry) { return value < entry.start; });
  if (after == entries_.begin()) return std::nullopt;
  auto i = static_cast<uint32_t>(std::prev(after) - entries_.begin());
  for (int depth = 0; i != kNoEntry && depth < kMaxOverlap; ++depth) {
    const Entry& entry = entries_[i];
    if (address - entry.start < entry.size) {
      return Symbol{.name = NameOf(entry), .start = entry.start, .size = entry.size};
    }
    i = entry.enclosing;
  }
  return std::nullopt;
}

std::optional<uint64_t> SymbolTable::AddressOf(absl::string_view name) const {
  for (const Entry& entry : entries_) {
    if (NameOf(entry) == name) return entry.start;
  }
  return std::nullopt;
}

size_t SymbolTable::bytes() const {
  return entries_.capacity() * sizeof(Entry) + names_.capacity();
}

}  // namespace lbrd::unwind
