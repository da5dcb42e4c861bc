#include "tests/sim/program_elf.h"

#include <elf.h>

#include <cstring>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "tests/unit/unwind/elf_image.h"

namespace lbrd::sim {
namespace {

absl::string_view BuildId(const Module& module) {
  return {reinterpret_cast<const char*>(module.build_id.data()), module.build_id.size()};
}

void PutWord(uint32_t value, std::string* out) {
  out->append(reinterpret_cast<const char*>(&value), sizeof(value));
}

// One entry: its length, then `body` padded with DW_CFA_nop.
void PutEntry(std::string body, std::string* out) {
  body.resize((body.size() + 3) / 4 * 4);
  PutWord(static_cast<uint32_t>(body.size()), out);
  *out += body;
}

// .eh_frame, to stand at `address`. DWARF 5, section 6.4.
std::string EhFrame(const Program& program, ModuleKind module, uint64_t address) {
  std::string frames;
  std::string cie;
  PutWord(0, &cie);
  cie += "\x01zR";  // version 1, augmentation
  cie += '\0';
  cie += "\x01\x78\x10";  // code 1, data -8, the return address is register 16
  cie += "\x01\x1b";      // addresses are pc-relative, 4 bytes signed
  // CFA = rbp + 16; the return address at CFA - 8, rbp at CFA - 16.
  cie += "\x0c\x06\x10\x90\x01\x86\x02";
  PutEntry(cie, &frames);
  for (size_t i = 0; i < program.functions().size(); ++i) {
    const Function& function = program.function(static_cast<uint32_t>(i));
    if (function.module != module) continue;
    std::string fde;
    PutWord(static_cast<uint32_t>(frames.size() + 4), &fde);  // back to the CIE
    PutWord(static_cast<uint32_t>(function.offset - (address + frames.size() + 8)), &fde);
    PutWord(function.size, &fde);
    fde += '\0';
    // Nobody is returned to.
    if (i == Program::kProcessStart || i == Program::kThreadStart) fde += "\x07\x10";
    PutEntry(fde, &frames);
  }
  PutWord(0, &frames);
  return frames;
}

// The call sites' instructions, all of kCallBytes. Within a module they are direct; else they go by
// a pointer in memory, with prefixes that make up the length.
void PutCalls(const Program& program, ModuleKind kind, std::string* image) {
  for (const Function& function : program.functions()) {
    if (function.module != kind) continue;
    for (const CallSite& site : function.calls) {
      const Function& callee = program.function(site.callee);
      std::string code = site.tail ? "\x3e\xff\x64\x24\x08" : "\x3e\xff\x54\x24\x08";
      if (callee.module == kind) {
        code = site.tail ? "\xe9" : "\xe8";
        PutWord(callee.offset - (function.offset + site.offset + kCallBytes), &code);
      }
      image->replace(function.offset + site.offset, kCallBytes, code);
    }
  }
}

}  // namespace

std::string ProgramElf(const Program& program, ModuleKind kind) {
  const Module& module = program.module(kind);
  unwind::ElfImage image;
  const uint32_t text = image.Add({.name = ".text",
                                   .flags = SHF_ALLOC | SHF_EXECINSTR,
                                   .address = Program::kCodeOffset,
                                   .content = std::string(module.bytes, '\0')});
  std::vector<std::pair<std::string, Elf64_Sym>> symbols = {{"", {}}};
  for (const Function& function : program.functions()) {
    if (function.module != kind) continue;
    Elf64_Sym symbol{};
    symbol.st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC);
    symbol.st_shndx = static_cast<uint16_t>(text);
    symbol.st_value = function.offset;
    symbol.st_size = function.size;
    symbols.emplace_back(function.name, symbol);
  }
  image.AddSymbols(".symtab", SHT_SYMTAB, symbols);
  // Behind the code, where no mapping of another module is near.
  image.Add({.name = ".eh_frame",
             .flags = SHF_ALLOC,
             .address = module.bytes,
             .content = EhFrame(program, kind, module.bytes)});
  const uint32_t note = image.Add({.name = ".note.gnu.build-id",
                                   .type = SHT_NOTE,
                                   .flags = SHF_ALLOC,
                                   .address = 0x200,
                                   .content = unwind::BuildIdNote(BuildId(module))});
  Elf64_Phdr load{};
  load.p_type = PT_LOAD;
  load.p_flags = PF_R | PF_X;
  load.p_filesz = load.p_memsz = module.bytes;
  image.AddSegment(load);
  image.AddSegment(PT_NOTE, PF_R, note);
  std::string bytes = image.Build();
  PutCalls(program, kind, &bytes);  // the file's offsets are its addresses
  return bytes;
}

void ProgramFiles::Add(const Program& program) {
  for (const ModuleKind kind :
       {ModuleKind::kExecutable, ModuleKind::kLibrary, ModuleKind::kPlugIn}) {
    const Module& module = program.module(kind);
    files_[module.path] = {unwind::BytesOf(ProgramElf(program, kind)),
                           absl::BytesToHexString(BuildId(module)), module.inode};
  }
}

absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> ProgramFiles::Open(
    int32_t, const unwind::FileIdentity& file) {
  const auto found = files_.find(file.path);
  if (found == files_.end()) return absl::NotFoundError(absl::StrCat("no file ", file.path));
  if ((!file.build_id.empty() && file.build_id != found->second.build_id) ||
      (file.inode != 0 && file.inode != found->second.inode)) {
    return absl::FailedPreconditionError(absl::StrCat(file.path, " is another file"));
  }
  return found->second.bytes;
}

absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> ProgramFiles::OpenDebug(
    int32_t, const std::string& build_id) {
  return absl::NotFoundError(absl::StrCat("no debug file for ", build_id));
}

}  // namespace lbrd::sim
