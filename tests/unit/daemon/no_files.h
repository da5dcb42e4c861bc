// A machine without files, for tests that need no symbols.
#pragma once

#include <memory>
#include <string>

#include "unwind/file_source.h"

namespace lbrd::daemon {

class NoFiles : public unwind::FileSource {
 public:
  absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> Open(
      int32_t, const unwind::FileIdentity&) override {
    return absl::NotFoundError("no file");
  }
  absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> OpenDebug(int32_t,
                                                                      const std::string&) override {
    return absl::NotFoundError("no file");
  }
};

}  // namespace lbrd::daemon
