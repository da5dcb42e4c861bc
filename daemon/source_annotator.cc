#include "daemon/source_annotator.h"

#include <algorithm>
#include <utility>

#include "daemon/proto_encoder.h"
#include "unwind/binary.h"
#include "unwind/demangle.h"

namespace lbrd::daemon {
namespace {

void Annotate(std::vector<unwind::SourceCall> calls, bool inlined, v1::Frame* out) {
  if (calls.empty()) return;
  // The last is the frame's own function.
  out->set_file(ProtoText(calls.back().file));
  out->set_line(calls.back().line);
  calls.pop_back();
  if (!inlined) return;
  for (const unwind::SourceCall& call : calls) {
    v1::InlinedCall* added = out->add_inlined();
    added->set_function(ProtoText(unwind::Demangle(call.function)));
    added->set_file(ProtoText(call.file));
    added->set_line(call.line);
  }
}

}  // namespace

SourceAnnotator::Lease::Lease(SourceAnnotator* annotator, const v1::SourceDetail& detail)
    : annotator_(annotator), detail_(detail) {
  if (!wanted()) return;
  absl::MutexLock lock(&annotator_->mutex_);
  ++annotator_->leases_;
}

SourceAnnotator::Lease::~Lease() {
  if (!wanted()) return;
  absl::MutexLock lock(&annotator_->mutex_);
  if (--annotator_->leases_ > 0) return;
  annotator_->by_binary_.clear();
  annotator_->open_.clear();
}

void SourceAnnotator::Lease::Annotate(const std::vector<std::shared_ptr<const FrameInfo>>& frames,
                                      v1::Definitions* definitions) const {
  // Together what is in one binary, and there what is in one unit.
  std::vector<int> order;
  for (size_t i = 0; i < frames.size(); ++i) {
    const FrameInfo& frame = *frames[i];
    if (frame.address != 0 && frame.binary != nullptr && frame.binary->code != nullptr) {
      order.push_back(static_cast<int>(i));
    }
  }
  std::sort(order.begin(), order.end(), [&](int a, int b) {
    const auto key = [&](int i) {
      const FrameInfo& frame = *frames[static_cast<size_t>(i)];
      return std::pair(frame.binary->id, frame.address);
    };
    return key(a) < key(b);
  });
  for (const int i : order) {
    const FrameInfo& frame = *frames[static_cast<size_t>(i)];
    // One frame at a time, so that requests take turns.
    absl::MutexLock lock(&annotator_->mutex_);
    unwind::SourceLines* lines = annotator_->LinesOf(frame.binary->code);
    if (lines == nullptr) continue;
    daemon::Annotate(lines->Find(frame.address), detail_.inlined(), definitions->mutable_frames(i));
  }
}

unwind::SourceLines* SourceAnnotator::LinesOf(const BinaryPtr& binary) {
  std::optional<unwind::ElfFile> file;
  auto known = by_binary_.find(binary.get());
  if (known == by_binary_.end()) {
    // Other requests need not wait: it may have to be fetched from far away.
    mutex_.Unlock();
    file = binary->DebugInfoFile();
    mutex_.Lock();
    known = by_binary_.find(binary.get());
  }
  if (known != by_binary_.end()) {
    open_.splice(open_.begin(), open_, known->second);
    return open_.front().lines.get();
  }
  Open opened{.binary = binary, .lines = nullptr};
  if (file.has_value()) {
    auto lines = unwind::SourceLines::Open(*file);
    if (lines.ok()) opened.lines = *std::move(lines);
  }
  open_.push_front(std::move(opened));
  by_binary_[binary.get()] = open_.begin();
  MakeRoom();
  return open_.front().lines.get();
}

void SourceAnnotator::MakeRoom() {
  uint64_t bytes = 0;
  for (const Open& open : open_) bytes += open.lines != nullptr ? open.lines->bytes() : 0;
  while (open_.size() > 1 && (bytes > kMaxBytes || open_.size() > kMaxOpen)) {
    const Open& oldest = open_.back();
    bytes -= oldest.lines != nullptr ? oldest.lines->bytes() : 0;
    by_binary_.erase(oldest.binary.get());
    open_.pop_back();
  }
}

}  // namespace lbrd::daemon
