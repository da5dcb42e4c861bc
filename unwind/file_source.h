// How the pure parts of unwind/ get at the bytes of the files that processes have mapped.
//
// Implementations decide what "the file" is: through the target's mount namespace on a live
// machine, by build ID for a recording. They may block and make system calls; unwind/ does not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace lbrd::unwind {

// Bytes that can be read at an offset: a file, or an image in memory. Reading never faults,
// whatever happens to the file meanwhile. Thread-safe.
class ByteSource {
 public:
  ByteSource() = default;
  ByteSource(const ByteSource&) = delete;
  ByteSource& operator=(const ByteSource&) = delete;
  virtual ~ByteSource() = default;
  virtual uint64_t size() const = 0;
  // Fills all of `out` or fails with kOutOfRange (beyond the end) or the system's error.
  virtual absl::Status ReadAt(uint64_t offset, std::span<std::byte> out) const = 0;
};

// Which file a mapping is of. At most one of build_id and inode identifies it; with neither, the
// path is all that is known and the content cannot be verified.
struct FileIdentity {
  std::string path;      // as the process sees it; "[vdso]" for the vdso
  std::string build_id;  // lower-case hex; empty: unknown
  uint32_t major = 0;
  uint32_t minor = 0;
  uint64_t inode = 0;  // 0: unknown
  bool operator==(const FileIdentity&) const = default;
  template <typename H>
  friend H AbslHashValue(H h, const FileIdentity& f) {
    return H::combine(std::move(h), f.path, f.build_id, f.major, f.minor, f.inode);
  }
};

class FileSource {
 public:
  FileSource() = default;
  FileSource(const FileSource&) = delete;
  FileSource& operator=(const FileSource&) = delete;
  virtual ~FileSource() = default;
  // The mapped file itself. `pid` is a process that has it mapped, if it still lives.
  // kNotFound: it cannot be had; kFailedPrecondition: a file is there but it is not the same one;
  // kUnavailable: that process is gone, and others that see what it saw may still have it.
  virtual absl::StatusOr<std::shared_ptr<const ByteSource>> Open(int32_t pid,
                                                                 const FileIdentity& file) = 0;
  // The separate debug file of a binary, by its build ID. kNotFound: there is none.
  virtual absl::StatusOr<std::shared_ptr<const ByteSource>> OpenDebug(
      int32_t pid, const std::string& build_id) = 0;
  // The same two from farther away, by build ID alone, where the user wants them to be got there;
  // `file.path` is for people. May take minutes: asked only for files that somebody needs something
  // of, when nothing here has it, and not under a lock that others need. kUnimplemented: nothing is
  // farther away; otherwise the message tells what was tried.
  virtual absl::StatusOr<std::shared_ptr<const ByteSource>> Fetch(const FileIdentity& file) {
    static_cast<void>(file);
    return absl::UnimplementedError("files are not fetched");
  }
  virtual absl::StatusOr<std::shared_ptr<const ByteSource>> FetchDebug(const FileIdentity& file) {
    static_cast<void>(file);
    return absl::UnimplementedError("files are not fetched");
  }
  // A file by its path, as the process sees it; nothing says that it is the right one.
  virtual absl::StatusOr<std::shared_ptr<const ByteSource>> OpenPath(int32_t pid,
                                                                     const std::string& path) {
    static_cast<void>(pid);
    return absl::NotFoundError(path);
  }
  // The map that the process's JIT writes for perf, as long as that may be had; it may grow, and so
  // does the source's size(). *path: its name. kNotFound: there is none (yet).
  virtual absl::StatusOr<std::shared_ptr<const ByteSource>> OpenPerfMap(int32_t pid,
                                                                        std::string* path) {
    static_cast<void>(pid);
    static_cast<void>(path);
    return absl::NotFoundError("no perf map");
  }
};

}  // namespace lbrd::unwind
