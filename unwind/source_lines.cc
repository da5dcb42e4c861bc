#include "unwind/source_lines.h"

#include <dwarf.h>
#include <elf.h>
#include <elfutils/libdw.h>
#include <libelf.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <span>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace lbrd::unwind {
namespace {

// What libdw reads, by name. Lengths are within .debug_info and its like.
constexpr absl::string_view kSections[] = {
    ".debug_info",     ".debug_abbrev", ".debug_line",     ".debug_str",
    ".debug_line_str", ".debug_ranges", ".debug_rnglists", ".debug_str_offsets",
    ".debug_addr",     ".debug_types",  ".debug_loclists",
};

// Names, specifications and origins refer to each other; in good DWARF three steps at most.
constexpr int kMaxReferences = 16;

// An ELF file of these sections alone. kNotFound: there is no .debug_info.
absl::StatusOr<std::vector<std::byte>> MakeImage(const ElfFile& file) {
  if (file.FindSection(".debug_info") == nullptr) {
    return absl::NotFoundError("it has no DWARF");
  }
  std::vector<std::byte> image(sizeof(Elf64_Ehdr));
  std::vector<Elf64_Shdr> headers(1);
  std::string names(1, '\0');
  const auto add = [&](absl::string_view name, uint32_t type, std::span<const std::byte> bytes) {
    image.resize((image.size() + 7) / 8 * 8);
    Elf64_Shdr header{};
    header.sh_name = static_cast<uint32_t>(names.size());
    header.sh_type = type;
    header.sh_offset = image.size();
    header.sh_size = bytes.size();
    header.sh_addralign = 1;
    absl::StrAppend(&names, name, absl::string_view("\0", 1));
    image.insert(image.end(), bytes.begin(), bytes.end());
    headers.push_back(header);
  };
  for (const absl::string_view name : kSections) {
    const ElfSection* section = file.FindSection(name);
    if (section == nullptr) continue;
    const absl::StatusOr<std::vector<std::byte>> bytes = file.Read(*section);
    if (!bytes.ok()) continue;
    if (image.size() + bytes->size() > SourceLines::kMaxBytes) {
      return absl::ResourceExhaustedError(
          absl::StrCat("its DWARF takes more than ", SourceLines::kMaxBytes, " bytes"));
    }
    add(name, SHT_PROGBITS, *bytes);
  }
  const std::string strings = names + ".shstrtab" + '\0';
  add(".shstrtab", SHT_STRTAB, std::as_bytes(std::span(strings)));
  image.resize((image.size() + 7) / 8 * 8);

  Elf64_Ehdr header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_ident[EI_VERSION] = EV_CURRENT;
  header.e_type = ET_EXEC;  // nothing is to be relocated
  header.e_machine = file.machine();
  header.e_version = EV_CURRENT;
  header.e_shoff = image.size();
  header.e_ehsize = sizeof(Elf64_Ehdr);
  header.e_shentsize = sizeof(Elf64_Shdr);
  header.e_shnum = static_cast<uint16_t>(headers.size());
  header.e_shstrndx = static_cast<uint16_t>(headers.size() - 1);
  std::memcpy(image.data(), &header, sizeof header);
  const std::span<const std::byte> table = std::as_bytes(std::span(headers));
  image.insert(image.end(), table.begin(), table.end());
  return image;
}

struct EndElf {
  void operator()(Elf* elf) const { elf_end(elf); }
};
struct EndDwarf {
  void operator()(Dwarf* dwarf) const { dwarf_end(dwarf); }
};

// A range of code and the unit or function that has it.
struct Range {
  uint64_t start;
  uint64_t end;
  uint64_t reach;  // the greatest end up to here, in order of start
  Dwarf_Off die;
};

class RangeIndex {
 public:
  void Add(Dwarf_Die* die) {
    ptrdiff_t at = 0;
    Dwarf_Addr base = 0;
    Dwarf_Addr start = 0;
    Dwarf_Addr end = 0;
    const Dwarf_Off offset = dwarf_dieoffset(die);
    while (ranges_.size() < kMaxRanges && (at = dwarf_ranges(die, at, &base, &start, &end)) > 0) {
      if (start < end) ranges_.push_back({start, end, end, offset});
    }
  }
  void Finish() {
    std::sort(ranges_.begin(), ranges_.end(),
              [](const Range& a, const Range& b) { return a.start < b.start; });
    for (size_t i = 1; i < ranges_.size(); ++i) {
      ranges_[i].reach = std::max(ranges_[i].end, ranges_[i - 1].reach);
    }
  }
  size_t size() const { return ranges_.size(); }
  // Those that hold `address`, the one that starts last first.
  std::vector<Dwarf_Off> Find(uint64_t address) const {
    std::vector<Dwarf_Off> found;
    auto after = std::upper_bound(ranges_.begin(), ranges_.end(), address,
                                  [](uint64_t value, const Range& r) { return value < r.start; });
    while (after != ranges_.begin() && found.size() < kMaxOverlap) {
      --after;
      if (after->reach <= address) break;
      if (after->end > address) found.push_back(after->die);
    }
    return found;
  }

 private:
  static constexpr size_t kMaxRanges = 4 << 20;
  static constexpr size_t kMaxOverlap = 8;
  std::vector<Range> ranges_;
};

std::optional<Dwarf_Die> Referred(Dwarf_Die* die, unsigned attribute) {
  Dwarf_Attribute attr;
  Dwarf_Die target;
  if (dwarf_attr(die, attribute, &attr) == nullptr) return std::nullopt;
  if (dwarf_formref_die(&attr, &target) == nullptr) return std::nullopt;
  return target;
}

// The text of an attribute of this very entry; null: it has none.
const char* Text(Dwarf_Die* die, unsigned attribute) {
  Dwarf_Attribute attr;
  return dwarf_attr(die, attribute, &attr) != nullptr ? dwarf_formstring(&attr) : nullptr;
}

const char* LinkageName(Dwarf_Die* die) {
  const char* name = Text(die, DW_AT_linkage_name);
  return name != nullptr ? name : Text(die, DW_AT_MIPS_linkage_name);
}

// The functions of a unit: where they are, and the scopes of those that have no linkage name.
struct UnitFunctions {
  RangeIndex ranges;
  absl::flat_hash_map<Dwarf_Off, std::string> scopes;  // by entry: "ns::Class::"
};

// The linker's name of a function, or else the source's with its scope.
std::string FunctionName(Dwarf_Die die, const UnitFunctions& functions) {
  std::string plain;
  for (int i = 0; i < kMaxReferences; ++i) {
    if (const char* name = LinkageName(&die)) return name;
    const char* name = plain.empty() ? Text(&die, DW_AT_name) : nullptr;
    if (name != nullptr) {
      const auto scope = functions.scopes.find(dwarf_dieoffset(&die));
      plain = scope != functions.scopes.end() ? scope->second + name : name;
    }
    std::optional<Dwarf_Die> next = Referred(&die, DW_AT_abstract_origin);
    if (!next.has_value()) next = Referred(&die, DW_AT_specification);
    if (!next.has_value()) break;
    die = *next;
  }
  return plain;
}

uint32_t Number(Dwarf_Die* die, unsigned attribute) {
  Dwarf_Attribute attr;
  Dwarf_Word value = 0;
  if (dwarf_attr(die, attribute, &attr) == nullptr || dwarf_formudata(&attr, &value) != 0) return 0;
  return value <= UINT32_MAX ? static_cast<uint32_t>(value) : 0;
}

class LibdwLines : public SourceLines {
 public:
  absl::Status Start(const ElfFile& file) {
    absl::StatusOr<std::vector<std::byte>> image = MakeImage(file);
    if (!image.ok()) return image.status();
    image_ = *std::move(image);
    elf_version(EV_CURRENT);
    elf_.reset(elf_memory(reinterpret_cast<char*>(image_.data()), image_.size()));
    if (!Begin()) return absl::DataLossError(absl::StrCat("its DWARF: ", dwarf_errmsg(-1)));
    if (const ElfSection* lines = file.FindSection(".debug_line")) {
      absl::StatusOr<std::vector<std::byte>> bytes = file.Read(*lines);
      if (bytes.ok()) line_programs_ = *std::move(bytes);
    }
    IndexUnits();
    return absl::OkStatus();
  }

  std::vector<SourceCall> Find(uint64_t address) override {
    dies_left_ = std::min(dies_left_ + kDiesPerAddress, kMaxDies);
    if (line_bytes_ > kMaxLineProgramBytes) {
      line_bytes_ = 0;
      lines_read_.clear();
      if (!Begin()) return {};
    }
    for (const Dwarf_Off offset : units_.Find(address)) {
      Dwarf_Die unit;
      if (dwarf_offdie(dwarf_.get(), offset, &unit) == nullptr) continue;
      std::vector<SourceCall> calls = FindInUnit(&unit, offset, address);
      if (!calls.empty()) return calls;
    }
    return {};
  }

  uint64_t bytes() const override {
    return image_.size() + line_programs_.size() + kRowBytes * line_bytes_;
  }
  std::string problem() const override { return problem_; }

 private:
  static constexpr uint64_t kRowBytes = 40;
  static constexpr size_t kMaxFunctions = 1 << 20;
  static constexpr size_t kMaxOpenScopes = 1 << 16;
  static constexpr size_t kMaxPrefixBytes = 1024;

  // libdw keeps all that it has parsed until it is begun anew.
  bool Begin() {
    dwarf_.reset();
    if (elf_ != nullptr) dwarf_.reset(dwarf_begin_elf(elf_.get(), DWARF_C_READ, nullptr));
    return dwarf_ != nullptr;
  }

  bool SpendDie() {
    if (dies_left_ > 0) {
      --dies_left_;
      return true;
    }
    problem_ = "its DWARF has more entries than are looked at";
    return false;
  }

  void IndexUnits() {
    Dwarf_CU* unit = nullptr;
    Dwarf_Die die;
    uint8_t type = 0;
    size_t count = 0;
    while (dwarf_get_units(dwarf_.get(), unit, &unit, nullptr, &type, &die, nullptr) == 0) {
      if (++count > kMaxUnits) {
        problem_ = "its DWARF has more units than are looked at";
        break;
      }
      if (type == DW_UT_compile) units_.Add(&die);
    }
    units_.Finish();
  }

  // The functions of a unit, which may stand in namespaces and classes.
  const UnitFunctions& Functions(Dwarf_Die* unit, Dwarf_Off offset) {
    const auto known = functions_.find(offset);
    if (known != functions_.end()) return known->second;
    if (functions_kept_ > kMaxFunctions) {
      functions_.clear();
      functions_kept_ = 0;
    }
    UnitFunctions& functions = functions_[offset];
    struct Scope {
      Dwarf_Die die;
      std::string prefix;
    };
    std::vector<Scope> open = {{*unit, ""}};
    while (!open.empty()) {
      Scope scope = std::move(open.back());
      open.pop_back();
      Dwarf_Die child;
      if (dwarf_child(&scope.die, &child) != 0) continue;
      do {
        if (!SpendDie()) break;
        switch (dwarf_tag(&child)) {
          case DW_TAG_subprogram:
            functions.ranges.Add(&child);
            if (!scope.prefix.empty() && LinkageName(&child) == nullptr &&
                functions.scopes.size() < kMaxFunctions) {
              functions.scopes.emplace(dwarf_dieoffset(&child), scope.prefix);
            }
            break;
          case DW_TAG_namespace:
          case DW_TAG_module:
          case DW_TAG_class_type:
          case DW_TAG_structure_type:
            if (open.size() < kMaxOpenScopes && scope.prefix.size() < kMaxPrefixBytes) {
              const char* name = Text(&child, DW_AT_name);
              open.push_back(
                  {child, absl::StrCat(scope.prefix,
                                       name != nullptr ? name : "(anonymous namespace)", "::")});
            }
            break;
          default:
            break;
        }
      } while (dwarf_siblingof(&child, &child) == 0);
    }
    functions.ranges.Finish();
    functions_kept_ += functions.ranges.size() + functions.scopes.size();
    return functions;
  }

  // The function and what is inlined in it, outermost first.
  std::vector<Dwarf_Die> Scopes(Dwarf_Die function, uint64_t address) {
    std::vector<Dwarf_Die> scopes = {function};
    Dwarf_Die at = function;
    for (size_t depth = 0; depth < 4 * kMaxInlined && scopes.size() <= kMaxInlined; ++depth) {
      Dwarf_Die child;
      bool found = false;
      if (dwarf_child(&at, &child) != 0) break;
      do {
        if (!SpendDie()) return scopes;
        const int tag = dwarf_tag(&child);
        const bool block = tag == DW_TAG_lexical_block || tag == DW_TAG_try_block ||
                           tag == DW_TAG_catch_block || tag == DW_TAG_inlined_subroutine;
        found = block && dwarf_haspc(&child, address) == 1;
      } while (!found && dwarf_siblingof(&child, &child) == 0);
      if (!found) break;
      if (dwarf_tag(&child) == DW_TAG_inlined_subroutine) scopes.push_back(child);
      at = child;
    }
    return scopes;
  }

  // Whether the unit's line program is of a size to be read.
  bool LinesAreBounded(Dwarf_Die* unit) {
    Dwarf_Attribute attr;
    Dwarf_Word offset = 0;
    if (dwarf_attr(unit, DW_AT_stmt_list, &attr) == nullptr ||
        dwarf_formudata(&attr, &offset) != 0 || line_programs_.size() < sizeof(uint32_t) ||
        offset > line_programs_.size() - sizeof(uint32_t)) {
      return false;
    }
    uint32_t length = 0;
    std::memcpy(&length, &line_programs_[offset], sizeof length);
    if (length <= kMaxLineProgramBytes) {
      if (lines_read_.insert(offset).second) line_bytes_ += length;
      return true;
    }
    problem_ = "its DWARF has larger line programs than are read";
    return false;
  }

  std::vector<SourceCall> FindInUnit(Dwarf_Die* unit, Dwarf_Off offset, uint64_t address) {
    SourceCall place;  // where the innermost function is
    Dwarf_Files* files = nullptr;
    size_t file_count = 0;
    if (LinesAreBounded(unit)) {
      if (Dwarf_Line* line = dwarf_getsrc_die(unit, address)) {
        int number = 0;
        if (const char* file = dwarf_linesrc(line, nullptr, nullptr)) place.file = file;
        if (dwarf_lineno(line, &number) == 0 && number > 0) {
          place.line = static_cast<uint32_t>(number);
        }
      }
      if (dwarf_getsrcfiles(unit, &files, &file_count) != 0) files = nullptr;
    }
    std::vector<SourceCall> calls;
    const UnitFunctions& functions = Functions(unit, offset);
    for (const Dwarf_Off function_offset : functions.ranges.Find(address)) {
      Dwarf_Die function;
      if (dwarf_offdie(dwarf_.get(), function_offset, &function) == nullptr) continue;
      std::vector<Dwarf_Die> scopes = Scopes(function, address);
      for (auto scope = scopes.rbegin(); scope != scopes.rend(); ++scope) {
        place.function = FunctionName(*scope, functions);
        calls.push_back(std::exchange(place, {}));
        // The next one out is where this one was called.
        const uint32_t file = Number(&*scope, DW_AT_call_file);
        if (files != nullptr && file < file_count) {
          if (const char* name = dwarf_filesrc(files, file, nullptr, nullptr)) place.file = name;
        }
        place.line = Number(&*scope, DW_AT_call_line);
      }
      return calls;
    }
    if (!place.file.empty()) calls.push_back(std::move(place));
    return calls;
  }

  std::vector<std::byte> image_;
  std::unique_ptr<Elf, EndElf> elf_;
  std::unique_ptr<Dwarf, EndDwarf> dwarf_;
  std::vector<std::byte> line_programs_;
  RangeIndex units_;
  absl::flat_hash_map<Dwarf_Off, UnitFunctions> functions_;  // by unit
  size_t functions_kept_ = 0;
  absl::flat_hash_set<Dwarf_Word> lines_read_;  // line programs, by where they stand
  uint64_t line_bytes_ = 0;                     // of them
  uint64_t dies_left_ = kMaxDies;
  std::string problem_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<SourceLines>> SourceLines::Open(const ElfFile& file) {
  auto lines = std::make_unique<LibdwLines>();
  if (absl::Status started = lines->Start(file); !started.ok()) return started;
  return lines;
}

}  // namespace lbrd::unwind
