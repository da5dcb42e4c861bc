// The files that live processes have mapped, through each process's own mount namespace.
//
// Thread rules: thread-safe.
#pragma once

#include "unwind/file_source.h"

namespace lbrd::daemon {

class TargetFiles : public unwind::FileSource {
 public:
  absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> Open(
      int32_t pid, const unwind::FileIdentity& file) override;
  absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> OpenDebug(
      int32_t pid, const std::string& build_id) override;
};

}  // namespace lbrd::daemon
