// Names frames that another daemon resolved and had no names for.
//
// What it knows of them is a build ID and an address in the file's own terms, which is enough for
// any file of that build ID, wherever it comes from.
//
// Thread rules: thread-safe.
#pragma once

#include "daemon/source_annotator.h"
#include "lbrd/v1/profiler.pb.h"
#include "unwind/file_source.h"

namespace lbrd::daemon {

// Sets symbols of frames that have none and, where they are asked for, their lines and inlined
// calls; and why a binary's frames have no names. What is not found, and frames with a name, stay
// as they are. May take minutes: see FileSource::Fetch().
void NameFrames(unwind::FileSource* files, const v1::SourceDetail& detail,
                v1::Definitions* definitions);

}  // namespace lbrd::daemon
