#include "daemon/tls_endpoint.h"

#include <grpcpp/security/server_credentials.h>
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <unistd.h>

#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "pmu/read_all.h"

namespace lbrd::daemon {
namespace {

constexpr const char* kSettings[kTlsFiles] = {"tls-cert", "tls-key", "tls-ca"};

using Text = std::unique_ptr<BIO, decltype(&BIO_free)>;
using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;
using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;

absl::StatusOr<std::string> Read(TlsFile file,
                                 const std::function<absl::StatusOr<int>(TlsFile)>& open) {
  const char* const setting = kSettings[static_cast<uint32_t>(file)];
  const absl::StatusOr<int> fd = open(file);
  if (fd.ok()) return pmu::ReadAll(*fd, setting, kMaxTlsFileBytes);
  return absl::Status(fd.status().code(), absl::StrCat(setting, ": ", fd.status().message()));
}

Certificate FirstCertificate(const std::string& pem) {
  const Text text(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())), BIO_free);
  return Certificate(PEM_read_bio_X509(text.get(), nullptr, nullptr, nullptr), X509_free);
}

// Nobody is there who could be asked for a passphrase.
int NoPassphrase(char*, int, int, void*) { return -1; }

// gRPC takes what is wrong here in silence, and then serves nobody.
absl::Status Check(const std::string& certificate, const std::string& key,
                   const std::string& authorities) {
  const Certificate own = FirstCertificate(certificate);
  if (own == nullptr) return absl::InvalidArgumentError("tls-cert: no certificate in PEM");
  const Text text(BIO_new_mem_buf(key.data(), static_cast<int>(key.size())), BIO_free);
  const Key its(PEM_read_bio_PrivateKey(text.get(), nullptr, NoPassphrase, nullptr), EVP_PKEY_free);
  if (its == nullptr) {
    return absl::InvalidArgumentError("tls-key: no private key in PEM, without a passphrase");
  }
  if (X509_check_private_key(own.get(), its.get()) != 1) {
    return absl::InvalidArgumentError("tls-key: is not the key of the certificate in tls-cert");
  }
  if (FirstCertificate(authorities) == nullptr) {
    return absl::InvalidArgumentError("tls-ca: no certificate in PEM");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TlsEndpoint> MakeTlsEndpoint(
    int listener, const std::function<absl::StatusOr<int>(TlsFile)>& open) {
  const auto fail = [listener](const absl::Status& why) {
    close(listener);
    return absl::Status(why.code(),
                        absl::StrCat("other machines cannot be served: ", why.message()));
  };
  absl::StatusOr<std::string> certificate = Read(TlsFile::kCertificate, open);
  if (!certificate.ok()) return fail(certificate.status());
  absl::StatusOr<std::string> key = Read(TlsFile::kKey, open);
  if (!key.ok()) return fail(key.status());
  absl::StatusOr<std::string> authorities = Read(TlsFile::kAuthorities, open);
  if (!authorities.ok()) return fail(authorities.status());
  if (absl::Status good = Check(*certificate, *key, *authorities); !good.ok()) return fail(good);
  grpc::SslServerCredentialsOptions options(
      GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  options.pem_root_certs = *std::move(authorities);
  options.pem_key_cert_pairs.push_back(
      {.private_key = *std::move(key), .cert_chain = *std::move(certificate)});
  return TlsEndpoint{.listener = listener, .credentials = grpc::SslServerCredentials(options)};
}

}  // namespace lbrd::daemon
