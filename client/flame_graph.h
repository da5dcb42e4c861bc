// A profile as a flame graph: one self-contained SVG, the stacks' roots at the bottom.
//
// It is a readable picture wherever SVG is shown; in a browser, frames zoom on a click and can be
// searched by regular expression (Ctrl-F). The same profile always gives the same bytes.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "client/profile_index.h"

namespace lbrd::client {

struct FlameGraphOptions {
  uint32_t event = 0;
  std::string title;            // empty: "Flame graph of <event>"
  std::string host;             // shown where not empty
  int width_px = 1200;          // at least 400
  double least_frame_px = 0.1;  // narrower frames are counted, not drawn
};

// kInvalidArgument: no such event; kNotFound: it has no samples.
absl::StatusOr<std::string> RenderFlameGraph(const ProfileIndex& index,
                                             const FlameGraphOptions& options);

}  // namespace lbrd::client
