#include "daemon/frame_namer.h"

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/match.h"
#include "daemon/proto_encoder.h"
#include "daemon/sample.h"
#include "unwind/binary.h"
#include "unwind/demangle.h"

namespace lbrd::daemon {
namespace {

using Binaries = absl::flat_hash_map<uint32_t, std::shared_ptr<const BinaryInfo>>;

Binaries Open(unwind::BinaryCache* cache, const v1::Definitions& definitions) {
  Binaries binaries;
  for (const v1::Binary& binary : definitions.binaries()) {
    // Without a build ID no file is sure to be the same.
    if (binary.build_id().empty() || !absl::StartsWith(binary.path(), "/")) continue;
    auto info = std::make_shared<BinaryInfo>();
    info->id = binary.id();
    info->code = cache->Get(/*pid=*/-1, {.path = binary.path(), .build_id = binary.build_id()});
    binaries[binary.id()] = std::move(info);
  }
  return binaries;
}

void Name(const unwind::Binary& binary, uint64_t address, v1::Frame* frame) {
  const std::optional<unwind::Symbol> symbol = binary.FindSymbol(address);
  if (!symbol.has_value() || symbol->start > frame->offset()) return;
  frame->set_symbol(ProtoText(unwind::Demangle(symbol->name)));
  frame->set_offset(frame->offset() - symbol->start);
}

// Where a frame's instruction is in its file, by the offset of a frame without a name: a byte
// before a return address.
uint64_t AddressOf(const v1::Frame& frame) {
  switch (frame.source()) {
    case v1::FRAME_SOURCE_SAMPLED_IP:
    case v1::FRAME_SOURCE_LBR:
    case v1::FRAME_SOURCE_STITCHED:
      return frame.offset();
    default:
      return frame.offset() == 0 ? 0 : frame.offset() - 1;
  }
}

}  // namespace

void NameFrames(unwind::FileSource* files, const v1::SourceDetail& detail,
                v1::Definitions* definitions) {
  unwind::BinaryCache cache(files);
  const Binaries binaries = Open(&cache, *definitions);
  std::vector<std::shared_ptr<const FrameInfo>> frames;
  for (v1::Frame& frame : *definitions->mutable_frames()) {
    auto info = std::make_shared<FrameInfo>();
    const auto found = binaries.find(frame.binary_id());
    // Of one with a name the offset is the name's.
    if (found != binaries.end() && frame.symbol().empty()) {
      info->address = AddressOf(frame);
      info->binary = found->second;
      Name(*found->second->code, info->address, &frame);
    }
    frames.push_back(std::move(info));
  }
  for (v1::Binary& binary : *definitions->mutable_binaries()) {
    const auto found = binaries.find(binary.id());
    if (found == binaries.end() || binary.symbols_missing().empty()) continue;
    binary.set_symbols_missing(ProtoText(found->second->code->symbols_problem()));
  }
  SourceAnnotator annotator;
  const SourceAnnotator::Lease lease(&annotator, detail);
  if (lease.wanted()) lease.Annotate(frames, definitions);
}

}  // namespace lbrd::daemon
