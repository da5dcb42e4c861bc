// Any bytes as a binary with a debug link, mini debug info and compressed sections; and, as its
// first byte says, as a compressed stream by itself.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>

#include "tests/unit/unwind/memory_bytes.h"
#include "unwind/debug_file.h"
#include "unwind/decompress.h"
#include "unwind/symbol_table.h"

namespace {

using lbrd::unwind::ByteSource;
using lbrd::unwind::Compression;
using lbrd::unwind::ElfFile;
using lbrd::unwind::MemoryBytes;

void Check(bool holds) {
  if (!holds) std::abort();
}

// Every name leads to the same bytes.
class OneFile : public lbrd::unwind::FileSource {
 public:
  explicit OneFile(std::shared_ptr<const ByteSource> bytes) : bytes_(std::move(bytes)) {}
  absl::StatusOr<std::shared_ptr<const ByteSource>> Open(
      int32_t, const lbrd::unwind::FileIdentity&) override {
    return bytes_;
  }
  absl::StatusOr<std::shared_ptr<const ByteSource>> OpenDebug(int32_t,
                                                              const std::string&) override {
    return absl::NotFoundError("none");
  }
  absl::StatusOr<std::shared_ptr<const ByteSource>> OpenPath(int32_t,
                                                             const std::string& path) override {
    Check(path.find("/../") == std::string::npos);
    return bytes_;
  }

 private:
  const std::shared_ptr<const ByteSource> bytes_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 0 && data[0] < 3) {
    constexpr size_t kMost = 1 << 20;
    const auto out = lbrd::unwind::Decompress(static_cast<Compression>(data[0]),
                                              std::as_bytes(std::span(data + 1, size - 1)), kMost);
    Check(!out.ok() || out->size() <= kMost);
    return 0;
  }
  const auto bytes = std::make_shared<MemoryBytes>(data, size);
  const absl::StatusOr<ElfFile> file = ElfFile::Parse(bytes);
  if (!file.ok()) return 0;
  OneFile files(bytes);
  const std::optional<ElfFile> debug =
      lbrd::unwind::FindDebugFile(*file, "/opt/app/prog", files, 1);
  const absl::StatusOr<ElfFile> mini = lbrd::unwind::ReadMiniDebugInfo(*file);
  const ElfFile* more = debug.has_value() ? &*debug : mini.ok() ? &*mini : nullptr;
  lbrd::unwind::SymbolTable::Build(*file, more).status().IgnoreError();
  return 0;
}
