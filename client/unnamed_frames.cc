#include "client/unnamed_frames.h"

#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "client/private_daemon.h"

namespace lbrd::client {
namespace {

// The frames that may be named, and where they stand in what they are of.
struct Unnamed {
  v1::NameFramesRequest request;
  std::vector<int> frames;
  std::vector<int> binaries;
};

Unnamed FindUnnamed(const v1::Definitions& all) {
  Unnamed found;
  absl::flat_hash_map<uint32_t, int> binaries;  // those that a server may have
  for (int i = 0; i < all.binaries_size(); ++i) {
    const v1::Binary& binary = all.binaries(i);
    if (binary.build_id().empty() || !absl::StartsWith(binary.path(), "/")) continue;
    binaries[binary.id()] = i;
  }
  absl::flat_hash_map<uint32_t, bool> asked;
  v1::Definitions* const wanted = found.request.mutable_definitions();
  for (int i = 0; i < all.frames_size(); ++i) {
    const v1::Frame& frame = all.frames(i);
    if (!frame.symbol().empty() || frame.source() == v1::FRAME_SOURCE_KERNEL) continue;
    const auto binary = binaries.find(frame.binary_id());
    if (binary == binaries.end()) continue;
    *wanted->add_frames() = frame;
    found.frames.push_back(i);
    if (std::exchange(asked[frame.binary_id()], true)) continue;
    *wanted->add_binaries() = all.binaries(binary->second);
    found.binaries.push_back(binary->second);
  }
  return found;
}

absl::Status Name(const Unnamed& unnamed, bool quiet, v1::Definitions* all) {
  const absl::StatusOr<PrivateDaemon> daemon = PrivateDaemon::Start("", quiet);
  if (!daemon.ok()) return daemon.status();
  absl::StatusOr<v1::Definitions> named = daemon->client().NameFrames(unnamed.request);
  if (!named.ok()) return named.status();
  if (named->frames_size() != unnamed.request.definitions().frames_size() ||
      named->binaries_size() != unnamed.request.definitions().binaries_size()) {
    return absl::InternalError("the daemon answered something else");
  }
  for (int i = 0; i < named->frames_size(); ++i) {
    *all->mutable_frames(unnamed.frames[static_cast<size_t>(i)]) =
        std::move(*named->mutable_frames(i));
  }
  for (int i = 0; i < named->binaries_size(); ++i) {
    *all->mutable_binaries(unnamed.binaries[static_cast<size_t>(i)]) =
        std::move(*named->mutable_binaries(i));
  }
  return absl::OkStatus();
}

}  // namespace

void NameUnnamedFrames(const v1::SourceDetail& detail, bool quiet, v1::Definitions* definitions) {
  const char* servers = std::getenv("DEBUGINFOD_URLS");
  if (absl::StripAsciiWhitespace(absl::NullSafeStringView(servers)).empty()) return;
  Unnamed unnamed = FindUnnamed(*definitions);
  if (unnamed.frames.empty()) return;
  *unnamed.request.mutable_source_detail() = detail;
  const absl::Status status = Name(unnamed, quiet, definitions);
  if (status.ok()) return;
  std::fprintf(stderr, "lbrctl: debuginfod was not asked: %s\n",
               std::string(status.message()).c_str());
}

}  // namespace lbrd::client
