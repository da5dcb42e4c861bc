#include "unwind/debug_file.h"

#include <elf.h>
#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <span>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "unwind/decompress.h"

namespace lbrd::unwind {
namespace {

constexpr uint64_t kMaxLinkBytes = 4096 + 8;
constexpr uint64_t kMaxCompressedBytes = uint64_t{64} << 20;
constexpr size_t kPieceBytes = 256 << 10;

class OwnedBytes : public ByteSource {
 public:
  explicit OwnedBytes(std::vector<std::byte> bytes) : bytes_(std::move(bytes)) {}
  uint64_t size() const override { return bytes_.size(); }
  absl::Status ReadAt(uint64_t offset, std::span<std::byte> out) const override {
    if (offset > bytes_.size() || bytes_.size() - offset < out.size()) {
      return absl::OutOfRangeError("beyond the end");
    }
    if (!out.empty()) std::memcpy(out.data(), bytes_.data() + offset, out.size());
    return absl::OkStatus();
  }

 private:
  const std::vector<std::byte> bytes_;
};

bool HasCrc(const ByteSource& file, uint32_t expected) {
  if (file.size() > kMaxLinkedBytes) return false;
  std::vector<std::byte> piece(kPieceBytes);
  uLong crc = crc32(0, nullptr, 0);
  for (uint64_t at = 0; at < file.size();) {
    const size_t size = std::min<uint64_t>(piece.size(), file.size() - at);
    if (!file.ReadAt(at, std::span(piece).first(size)).ok()) return false;
    crc = crc32(crc, reinterpret_cast<const Bytef*>(piece.data()), static_cast<uInt>(size));
    at += size;
  }
  return crc == expected;
}

}  // namespace

std::optional<DebugLink> ReadDebugLink(const ElfFile& binary) {
  const ElfSection* section = binary.FindSection(".gnu_debuglink");
  if (section == nullptr || section->size > kMaxLinkBytes) return std::nullopt;
  const absl::StatusOr<std::vector<std::byte>> bytes = binary.Read(*section);
  if (!bytes.ok() || bytes->empty()) return std::nullopt;
  const char* name = reinterpret_cast<const char*>(bytes->data());
  const size_t length = strnlen(name, bytes->size());
  // The name, its NUL, up to three bytes of padding, the checksum.
  const size_t crc_at = (length + 1 + 3) / 4 * 4;
  DebugLink link{.file_name = std::string(name, length)};
  if (length == 0 || crc_at + sizeof(link.crc) > bytes->size() ||
      link.file_name.find('/') != std::string::npos || link.file_name == "..") {
    return std::nullopt;
  }
  std::memcpy(&link.crc, bytes->data() + crc_at, sizeof(link.crc));
  return link;
}

std::vector<std::string> DebugLinkPaths(absl::string_view binary_path, const DebugLink& link) {
  const size_t slash = binary_path.rfind('/');
  if (slash == absl::string_view::npos) return {};
  const absl::string_view folder = binary_path.substr(0, slash);
  return {absl::StrCat(folder, "/", link.file_name),
          absl::StrCat(folder, "/.debug/", link.file_name),
          absl::StrCat("/usr/lib/debug", folder, "/", link.file_name)};
}

absl::StatusOr<ElfFile> ReadMiniDebugInfo(const ElfFile& binary) {
  const ElfSection* section = binary.FindSection(".gnu_debugdata");
  if (section == nullptr) return absl::NotFoundError("there is no mini debug info");
  if (section->size > kMaxCompressedBytes) {
    return absl::ResourceExhaustedError("mini debug info of more than 64 MiB");
  }
  const absl::StatusOr<std::vector<std::byte>> compressed = binary.Read(*section);
  if (!compressed.ok()) return compressed.status();
  absl::StatusOr<std::vector<std::byte>> bytes =
      Decompress(Compression::kXz, *compressed, kMaxMiniDebugInfoBytes);
  if (!bytes.ok()) return bytes.status();
  return ElfFile::Parse(std::make_shared<OwnedBytes>(*std::move(bytes)));
}

std::optional<ElfFile> FindDebugFile(const ElfFile& binary, absl::string_view binary_path,
                                     FileSource& files, int32_t pid) {
  const std::string& build_id = binary.build_id();
  if (!build_id.empty()) {
    absl::StatusOr<std::shared_ptr<const ByteSource>> bytes = files.OpenDebug(pid, build_id);
    if (bytes.ok()) {
      absl::StatusOr<ElfFile> parsed = ElfFile::Parse(*std::move(bytes));
      if (parsed.ok() && parsed->build_id() == build_id) return *std::move(parsed);
    }
  }
  const std::optional<DebugLink> link = ReadDebugLink(binary);
  if (!link.has_value()) return std::nullopt;
  for (const std::string& path : DebugLinkPaths(binary_path, *link)) {
    // A link to its own name would lead back to the binary.
    if (path == binary_path) continue;
    const absl::StatusOr<std::shared_ptr<const ByteSource>> bytes = files.OpenPath(pid, path);
    if (!bytes.ok()) continue;
    absl::StatusOr<ElfFile> parsed = ElfFile::Parse(*bytes);
    if (!parsed.ok()) continue;
    const bool own = build_id.empty() ? HasCrc(**bytes, link->crc) : parsed->build_id() == build_id;
    if (own) return *std::move(parsed);
  }
  return std::nullopt;
}

absl::StatusOr<ElfFile> FetchDebugFile(const ElfFile& binary, absl::string_view binary_path,
                                       FileSource& files) {
  // The vdso has all of its few names itself.
  if (binary.build_id().empty() || !absl::StartsWith(binary_path, "/")) {
    return absl::UnimplementedError("it cannot be asked for");
  }
  absl::StatusOr<std::shared_ptr<const ByteSource>> bytes =
      files.FetchDebug({.path = std::string(binary_path), .build_id = binary.build_id()});
  if (!bytes.ok()) return bytes.status();
  absl::StatusOr<ElfFile> parsed = ElfFile::Parse(*std::move(bytes));
  if (!parsed.ok()) return parsed.status();
  if (parsed->build_id() != binary.build_id()) {
    return absl::FailedPreconditionError("what was fetched is another binary's");
  }
  return parsed;
}

}  // namespace lbrd::unwind
