// Where the symbols and the DWARF of a binary are that its own file lacks.
//
// In this order, the first that is the binary's own: the debug file with its build ID; the file
// that its .gnu_debuglink names; the mini debug info (.gnu_debugdata, an ELF file compressed by xz
// that holds function symbols and nothing more) inside it. A linked file counts as its own by the
// build ID, or where the binary has none by the checksum in the link.
//
// Input is hostile. Costs: a linked file of up to kMaxLinkedBytes is read once for its checksum
// (none where there is a build ID); mini debug info takes kMaxMiniDebugInfoBytes of memory while
// its symbols are read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "unwind/elf_file.h"
#include "unwind/file_source.h"

namespace lbrd::unwind {

inline constexpr size_t kMaxMiniDebugInfoBytes = size_t{64} << 20;
inline constexpr uint64_t kMaxLinkedBytes = uint64_t{1} << 30;

struct DebugLink {
  std::string file_name;  // without a folder
  uint32_t crc = 0;       // of the whole file: CRC-32 as zlib's
};

// nullopt: it has none, or one that is malformed or names a folder.
std::optional<DebugLink> ReadDebugLink(const ElfFile& binary);
// Where the linked file may be: beside the binary, in .debug there, in the same folder below
// /usr/lib/debug. Empty: the binary's path has no folder.
std::vector<std::string> DebugLinkPaths(absl::string_view binary_path, const DebugLink& link);

// The ELF file in .gnu_debugdata. kNotFound: there is none.
absl::StatusOr<ElfFile> ReadMiniDebugInfo(const ElfFile& binary);

// A separate debug file. `pid`: a process that has the binary mapped.
std::optional<ElfFile> FindDebugFile(const ElfFile& binary, absl::string_view binary_path,
                                     FileSource& files, int32_t pid);

// The same from farther away (FileSource::FetchDebug), where it is known by its build ID alone. May
// take minutes. kUnimplemented: nothing was tried; otherwise the message tells what was.
absl::StatusOr<ElfFile> FetchDebugFile(const ElfFile& binary, absl::string_view binary_path,
                                       FileSource& files);

}  // namespace lbrd::unwind
