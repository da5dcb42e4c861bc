#include "daemon/journal_identity.h"

namespace lbrd::daemon {

void KeepIdentity(const Identity& who, journal::SessionRecord* record) {
  record->set_admin(who.admin());
  record->set_uid(who.uid);
  record->set_pid(who.pid);
  record->set_comm(who.comm.substr(0, kMaxCommBytes));
  record->set_certificate(who.certificate.substr(0, kMaxCertificateBytes));
}

Identity IdentityLeft(const journal::SessionRecord& record) {
  return {.role = record.admin() ? Role::kAdmin : Role::kUser,
          .uid = record.uid(),
          .pid = record.pid(),
          .comm = record.comm().substr(0, kMaxCommBytes),
          .certificate = record.certificate().substr(0, kMaxCertificateBytes)};
}

}  // namespace lbrd::daemon
