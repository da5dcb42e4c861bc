// What makes the flame graph's SVG look and move.
//
// The script relies on the elements that flame_graph.cc writes: a group of class "f" for each frame
// (title, rect, and always a text), and the ids details, matched, search, reset.
#pragma once

#include "absl/strings/string_view.h"

namespace lbrd::client {

extern const absl::string_view kFlameGraphStyle;
extern const absl::string_view kFlameGraphScript;

}  // namespace lbrd::client
