// Who made a session, as the journal keeps it for the next engine: what roles, names and the audit
// log go by.
//
// Thread rules: pure functions.
#pragma once

#include <cstddef>

#include "daemon/authorization.h"
#include "daemon/session_journal.pb.h"

namespace lbrd::daemon {

// A name has 253 (DNS) or 320 (mail) characters at most; longer ones from lbrd.toml are cut.
inline constexpr size_t kMaxCertificateBytes = 320;
inline constexpr size_t kMaxCommBytes = 16;

void KeepIdentity(const Identity& who, journal::SessionRecord* record);
// The record may be anybody's making: names are cut to what KeepIdentity() keeps.
Identity IdentityLeft(const journal::SessionRecord& record);

}  // namespace lbrd::daemon
