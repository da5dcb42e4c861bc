// A session's account in words: what was sampled, what was lost, and how far to trust the stacks.
#pragma once

#include <cstddef>
#include <string>

#include "lbrd/v1/session.pb.h"

namespace lbrd::client {

// One paragraph, wrapped to `width` cells (0: one line), without a newline at its end.
std::string RenderSummary(const v1::Session& session, size_t width);

}  // namespace lbrd::client
