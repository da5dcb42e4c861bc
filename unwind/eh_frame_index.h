// The search table of .eh_frame for binaries that come without one.
//
// Static binaries have .eh_frame but often no .eh_frame_hdr. This makes the header that the linker
// would have made: version 1, 4-byte pc-relative pointer to .eh_frame, 4-byte count, and the sorted
// table of (function, FDE) pairs relative to the header. Format: Linux Standard Base, "Exception
// Frames"; DWARF 5, 6.4.1.
//
// Input is hostile: one pass, bounded by the section's size. Entries that cannot be read are left
// out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace lbrd::unwind {

// `frames` is the content of .eh_frame and stands at `frames_address`; the header is to stand at
// `header_address`, within 2 GiB of it. Empty: no entry could be read.
std::vector<std::byte> BuildEhFrameHeader(std::span<const std::byte> frames,
                                          uint64_t frames_address, uint64_t header_address);

}  // namespace lbrd::unwind
