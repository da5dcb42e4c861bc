// The daemon's figures in Prometheus' text format, version 0.0.4.
//
// Each figure of DaemonStats, and of the history in it, is a metric: `sessions_running` is
// lbrd_sessions{state="running"}, a duration is in seconds, what only grows ends in `_total`. A
// field that DaemonStats gains is served too, without a type until it has a row in metrics_text.cc.
#pragma once

#include <string>

#include "lbrd/v1/profiler.pb.h"

namespace lbrd::daemon {

inline constexpr char kMetricsContentType[] = "text/plain; version=0.0.4; charset=utf-8";

std::string MetricsText(const v1::DaemonStats& stats);

}  // namespace lbrd::daemon
