// The test's own process as unwinding sees it: its mappings, its files, its thread starts.
#pragma once

#include <sys/auxv.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <functional>
#include <memory>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/unit/unwind/memory_bytes.h"
#include "unwind/address_space.h"

namespace lbrd::unwind {

class LiveFiles : public FileSource {
 public:
  absl::StatusOr<std::shared_ptr<const ByteSource>> Open(int32_t,
                                                         const FileIdentity& file) override {
    std::shared_ptr<const ByteSource> bytes;
    if (file.path == "[vdso]") {
      const auto* vdso = reinterpret_cast<const void*>(getauxval(AT_SYSINFO_EHDR));
      bytes = std::make_shared<MemoryBytes>(vdso, 2 * static_cast<size_t>(getpagesize()));
    } else {
      bytes = MemoryBytes::OfFile(file.path);
    }
    if (bytes == nullptr) return absl::NotFoundError(file.path);
    return bytes;
  }
  absl::StatusOr<std::shared_ptr<const ByteSource>> OpenDebug(int32_t,
                                                              const std::string&) override {
    return absl::NotFoundError("no debug files are used");
  }
};

struct LiveMapping {
  uint64_t start = 0;
  uint64_t end = 0;
  uint64_t offset = 0;
  bool executable = false;
  FileIdentity file;
};

inline void ForEachLiveMapping(const std::function<void(const LiveMapping&)>& visit) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    LiveMapping m;
    unsigned long start = 0, end = 0, offset = 0, inode = 0;
    char permissions[5] = {};
    int path = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx %4s %lx %x:%x %lu %n", &start, &end, permissions,
                    &offset, &m.file.major, &m.file.minor, &inode, &path) < 7) {
      continue;
    }
    m.start = start;
    m.end = end;
    m.offset = offset;
    m.executable = permissions[2] == 'x';
    m.file.inode = inode;
    m.file.path = line.substr(static_cast<size_t>(path));
    visit(m);
  }
}

// This process's executable mappings, less those whose path `skip` holds for.
inline AddressSpace LiveSpace(
    BinaryCache* binaries, const std::function<bool(const std::string&)>& skip =
                               [](const std::string&) { return false; }) {
  AddressSpace space;
  ForEachLiveMapping([&](const LiveMapping& m) {
    if (!m.executable || skip(m.file.path)) return;
    space.Map({.start = m.start,
               .end = m.end,
               .file_offset = m.offset,
               .binary = binaries->Get(getpid(), m.file)});
  });
  return space;
}

// Where this program was entered: its _start.
inline uint64_t ProgramEntry() { return getauxval(AT_ENTRY); }

}  // namespace lbrd::unwind
