// A profile in pprof's format: a gzip'd perftools.profiles.Profile.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "client/profile_index.h"

namespace lbrd::client {

// The file's bytes; the same profile always gives the same. Sample types are "samples/count" and,
// for each event of the session, "<event>/<unit>". A sample is one stack of one thread, with the
// labels thread, comm, pid, tid and stack (the verdict: "complete", "truncated: stack_copy_ended").
// A frame without a name gets ProfileIndex::FrameLabel() as its function, so that no reader looks
// one up in another build of the file. The session's summary is the comment.
absl::StatusOr<std::string> EncodePprof(const ProfileIndex& index);

}  // namespace lbrd::client
