// Files and memory as unwind's ByteSource.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "unwind/file_source.h"

namespace lbrd::daemon {

// A regular file behind a descriptor, which it owns. Read with pread(2), never mapped: a file that
// somebody cuts short while we look at it gives an error, not a SIGBUS.
absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> FileBytes(int fd, absl::string_view path);

// Opens `path` below the folder descriptor `root` as if that were the root: symbolic links, also
// absolute ones and "..", stay inside. Regular files only, so nothing is triggered or waited for.
// kNotFound, kPermissionDenied, or what the system said. The result is a descriptor. `resolve`:
// more of openat2(2)'s RESOLVE_… flags.
absl::StatusOr<int> OpenRegularInRoot(int root, const std::string& path, uint64_t resolve = 0);
// The same below our own root.
absl::StatusOr<int> OpenRegular(const std::string& path);

// The image of the vdso that the kernel mapped into this process: the same one that every 64-bit
// process has.
absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> VdsoBytes();

// The path below a debug folder ("/usr/lib/debug") of the file with this build ID and suffix.
std::string BuildIdPath(absl::string_view folder, absl::string_view build_id,
                        absl::string_view suffix);

// Whether the ELF file in `bytes` has this build ID.
bool HasBuildId(const std::shared_ptr<const unwind::ByteSource>& bytes, absl::string_view build_id);

}  // namespace lbrd::daemon
