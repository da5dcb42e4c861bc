// Adds what DWARF knows to frames that are sent: lines, inlined functions.
//
// Off the way of samples: read by the thread of the request that asks, when it asks. Open debug
// information is shared by all requests and bounded by kMaxBytes (one binary's may exceed it by
// itself, up to SourceLines' own bounds); the longest unused goes first, and all of it when no
// request is there any more.
//
// Thread rules: thread-safe; requests take turns.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "daemon/sample.h"
#include "lbrd/v1/profiler.pb.h"
#include "unwind/source_lines.h"

namespace lbrd::daemon {

class SourceAnnotator {
 public:
  static constexpr uint64_t kMaxBytes = uint64_t{512} << 20;
  // Binaries of which it is remembered that they have no DWARF, among others.
  static constexpr size_t kMaxOpen = 1024;

  // A request's use of it, for as long as the request takes.
  class Lease {
   public:
    Lease(SourceAnnotator* annotator, const v1::SourceDetail& detail);
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    ~Lease();

    bool wanted() const { return detail_.lines() || detail_.inlined(); }
    // `frames`: those of definitions->frames(), in their order; nothing where nothing is wanted.
    void Annotate(const std::vector<std::shared_ptr<const FrameInfo>>& frames,
                  v1::Definitions* definitions) const;

   private:
    SourceAnnotator* const annotator_;
    const v1::SourceDetail detail_;
  };

 private:
  using BinaryPtr = std::shared_ptr<const unwind::Binary>;
  struct Open {
    BinaryPtr binary;
    std::unique_ptr<unwind::SourceLines> lines;  // null: there are none
  };
  // Lets go of the lock while it looks for a file.
  unwind::SourceLines* LinesOf(const BinaryPtr& binary) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void MakeRoom() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  absl::Mutex mutex_;
  int leases_ ABSL_GUARDED_BY(mutex_) = 0;
  std::list<Open> open_ ABSL_GUARDED_BY(mutex_);  // the one used last first
  absl::flat_hash_map<const unwind::Binary*, std::list<Open>::iterator> by_binary_
      ABSL_GUARDED_BY(mutex_);
};

}  // namespace lbrd::daemon
