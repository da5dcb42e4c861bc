// Several users at one server: each RPC is known as its caller's, however often they connect; and
// hostile requests leave nothing behind.
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "daemon/profiler_service.h"
#include "daemon/server.h"
#include "daemon/target_files.h"
#include "daemon/unix_listener.h"
#include "pmu/admission_limits.h"
#include "pmu/linux_kernel.h"

namespace lbrd {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(120);

std::unique_ptr<v1::Profiler::Stub> Connect(const std::string& socket) {
  // A channel of its own each time: gRPC would share the connection of equal ones.
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return v1::Profiler::NewStub(grpc::CreateCustomChannel(
      absl::StrCat("unix:", socket), grpc::InsecureChannelCredentials(), arguments));
}

// Processes of other users. They are forked before this one has threads, and begin when told.
class Users {
 public:
  Users() { EXPECT_EQ(pipe(go_), 0); }
  void Add(uid_t uid, const std::function<int()>& work) {
    const pid_t pid = fork();
    if (pid == 0) {
      close(go_[1]);
      char byte;
      if (read(go_[0], &byte, 1) != 0) _exit(99);
      if (setgid(uid) != 0 || setuid(uid) != 0) _exit(98);
      _exit(work());
    }
    pids_.push_back(pid);
  }
  // Lets them begin, and waits: how each one ended.
  std::vector<int> Run() {
    close(go_[0]);
    close(go_[1]);
    std::vector<int> codes;
    for (const pid_t pid : pids_) {
      int status = 0;
      waitpid(pid, &status, 0);
      codes.push_back(WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status));
    }
    return codes;
  }

 private:
  int go_[2];
  std::vector<pid_t> pids_;
};

class Folder {
 public:
  Folder() {
    EXPECT_NE(mkdtemp(path_.data()), nullptr);
    std::filesystem::permissions(path_, std::filesystem::perms(0755));
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::string socket() const { return path_ + "/lbrd.sock"; }

 private:
  std::string path_ = "/tmp/lbrd-users-XXXXXX";
};

// Tells each caller who it is.
class WhoAmI final : public v1::Profiler::Service {
 public:
  explicit WhoAmI(daemon::Authenticator* authenticator) : authenticator_(*authenticator) {}
  grpc::Status GetSession(grpc::ServerContext* context, const v1::GetSessionRequest*,
                          v1::Session* response) override {
    const auto who = authenticator_.Identify(*context, 1);
    if (!who.ok()) return grpc::Status(grpc::UNAUTHENTICATED, std::string(who.status().message()));
    response->set_owner_uid(who->uid);
    return grpc::Status::OK;
  }

 private:
  daemon::Authenticator& authenticator_;
};

TEST(UsersTest, EachRpcIsItsCallersHoweverOftenTheyConnect) {
  const Folder folder;
  const std::string socket = folder.socket();
  Users users;
  for (const uid_t uid : {1500, 1501, 1502}) {
    users.Add(uid, [socket, uid] {
      for (int i = 0; i < 200; ++i) {
        const auto stub = Connect(socket);
        // The first RPC of a connection, and one that comes when others may have come and gone.
        for (int rpc = 0; rpc < 2; ++rpc) {
          grpc::ClientContext context;
          v1::Session answer;
          const grpc::Status status = stub->GetSession(&context, {}, &answer);
          if (!status.ok()) {
            std::fprintf(stderr, "%u: %s\n", uid, status.error_message().c_str());
            return 1;
          }
          if (answer.owner_uid() != uid) return 2;
        }
      }
      return 0;
    });
  }
  daemon::Authenticator authenticator({}, {.requests_per_second = 1e9});
  WhoAmI service(&authenticator);
  auto server =
      daemon::Server::Listen(socket, daemon::kEverybody, &service, nullptr, &authenticator);
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_EQ(users.Run(), (std::vector<int>{0, 0, 0}));
  (*server)->Shutdown(absl::Now() + absl::Seconds(5));
}

// What a user could think of: random bytes; messages with random fields; pieces of those.
class HostileRequests {
 public:
  explicit HostileRequests(uint32_t seed) : random_(seed) {}

  std::string Method() {
    constexpr const char* kMethods[] = {"GetCapabilities", "GetStats",      "CreateSession",
                                        "CreateSession",   "CreateSession", "GetSession",
                                        "ListSessions",    "StopSession",   "DeleteSession",
                                        "StreamSamples",   "GetProfile",    "NoSuchMethod"};
    method_ = kMethods[Pick(std::size(kMethods))];
    // Opens events of each kind, which takes its time.
    if (method_ == "GetCapabilities" && Pick(20) != 0) method_ = "GetStats";
    return "/lbrd.v1.Profiler/" + method_;
  }
  std::string Request() {
    if (Pick(4) == 0) return Bytes(Pick(200));
    if (Pick(500) == 0) return Bytes((1 << 20) + 1);
    std::string whole = method_ == "CreateSession" ? Create().SerializeAsString() : Named();
    if (Pick(8) == 0) whole.resize(Pick(static_cast<uint32_t>(whole.size()) + 1));
    if (Pick(8) == 0 && !whole.empty())
      whole[Pick(static_cast<uint32_t>(whole.size()))] ^= 1 << Pick(8);
    return whole;
  }

 private:
  uint32_t Pick(uint32_t n) { return static_cast<uint32_t>(random_()) % n; }
  std::string Bytes(uint32_t size) {
    std::string bytes(size, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random_());
    return bytes;
  }
  std::string Name() {
    switch (Pick(6)) {
      case 0:
        return absl::StrCat("s", Pick(10));
      case 1:
        return absl::StrCat("0/s", Pick(10));
      case 2:
        return std::string(Pick(70'000), 'a');
      case 3:
        return "../../%n%s\x1b[2J\n\t";
      case 4:
        return "";
      default:
        return Bytes(Pick(64));
    }
  }
  // A request whose first field is a name, which may be no UTF-8: by hand.
  std::string Named() {
    const std::string name = method_ == "StreamSamples" ? "none" : Name();
    std::string request = "\x0a";
    for (size_t left = name.size();; left >>= 7) {
      request.push_back(static_cast<char>((left & 0x7f) | (left > 0x7f ? 0x80 : 0)));
      if (left <= 0x7f) break;
    }
    return request + name;
  }
  v1::CreateSessionRequest Create() {
    v1::CreateSessionRequest request;
    request.set_session_id(Pick(2) == 0 ? absl::StrCat("s", Pick(10)) : std::string(Pick(99), '/'));
    v1::SessionSpec& spec = *request.mutable_spec();
    v1::Target& target = *spec.mutable_target();
    switch (Pick(7)) {
      case 0:
        target.mutable_process()->set_pid(static_cast<int32_t>(random_() >> Pick(32)));
        break;
      case 1:
        target.mutable_thread()->set_tid(static_cast<int32_t>(random_()));
        break;
      case 2:
        target.mutable_cgroup()->set_path("../../../etc");
        break;
      case 3:
        target.mutable_cpu_list()->set_cpus("0-4294967295,-1");
        break;
      case 4:
        target.mutable_recording()->set_path("/etc/shadow");
        break;
      case 5:
        if (Pick(10) == 0) target.mutable_process()->set_pid(getpid());
        break;
      default:
        target.mutable_user()->set_uid(static_cast<uint32_t>(random_()));
    }
    if (Pick(2) == 0) spec.set_event(Pick(2) == 0 ? "mem:0xffffffffffffffff:rwx" : "%s%n");
    if (Pick(3) == 0) spec.set_frequency_hz(static_cast<uint32_t>(random_()));
    if (Pick(3) == 0) spec.set_period(random_());
    if (Pick(3) == 0) spec.set_ring_bytes(random_() >> Pick(32));
    if (Pick(3) == 0) spec.set_stack_copy_bytes(static_cast<uint32_t>(random_()));
    spec.set_stack_mode(static_cast<v1::StackMode>(random_()));
    if (Pick(3) == 0) spec.mutable_duration()->set_seconds(static_cast<int64_t>(random_()));
    if (Pick(3) == 0) spec.mutable_duration()->set_nanos(static_cast<int32_t>(random_()));
    spec.set_wait_for_stream(Pick(2) == 0);
    return request;
  }

  std::mt19937_64 random_;
  std::string method_;
};

// Sends so many; 0: each had a clear answer, and what was made is deleted again.
int BeHostile(const std::string& socket, int requests, uint32_t seed) {
  HostileRequests hostile(seed);
  const auto channel =
      grpc::CreateChannel(absl::StrCat("unix:", socket), grpc::InsecureChannelCredentials());
  grpc::GenericStub stub(channel);
  for (int i = 0; i < requests; ++i) {
    const std::string method = hostile.Method();
    const grpc::Slice slice(hostile.Request());
    const grpc::ByteBuffer request(&slice, 1);
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + kPatience));
    grpc::CompletionQueue queue;
    const auto call = stub.PrepareUnaryCall(&context, method, request, &queue);
    call->StartCall();
    grpc::ByteBuffer answer;
    grpc::Status status;
    call->Finish(&answer, &status, nullptr);
    void* tag;
    bool ok;
    queue.Next(&tag, &ok);
    const grpc::StatusCode code = status.error_code();
    if (code == grpc::UNAVAILABLE || code == grpc::UNKNOWN || code == grpc::DEADLINE_EXCEEDED ||
        code == grpc::UNAUTHENTICATED ||
        // Of methods that are not there, and of what is no message, gRPC says just that.
        (!status.ok() && code != grpc::UNIMPLEMENTED && code != grpc::INTERNAL &&
         status.error_message().empty())) {
      std::fprintf(stderr, "request %d, %s: %d %s\n", i, method.c_str(), code,
                   status.error_message().c_str());
      return 1;
    }
  }
  const auto clean = v1::Profiler::NewStub(channel);
  grpc::ClientContext list;
  v1::ListSessionsResponse sessions;
  if (!clean->ListSessions(&list, {}, &sessions).ok()) return 2;
  for (const v1::Session& session : sessions.sessions()) {
    grpc::ClientContext context;
    v1::DeleteSessionRequest request;
    request.set_name(session.name());
    v1::DeleteSessionResponse response;
    if (!clean->DeleteSession(&context, request, &response).ok()) return 3;
  }
  return 0;
}

size_t OpenDescriptors() {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    ++count;
  }
  return count;
}

TEST(UsersTest, TenThousandHostileRequestsLeaveNothingBehind) {
  const Folder folder;
  const std::string socket = folder.socket();
  Users users;
  users.Add(1500, [socket] { return BeHostile(socket, 5000, 1); });
  users.Add(1501, [socket] { return BeHostile(socket, 4000, 2); });
  users.Add(0, [socket] { return BeHostile(socket, 1000, 3); });

  pmu::LinuxKernel kernel;
  pmu::Admission admission(pmu::DetectAdmissionLimits(kernel));
  daemon::TargetFiles files;
  unwind::BinaryCache binaries(&files);
  daemon::TaskTable tasks;
  daemon::Audit audit;
  daemon::Authenticator authenticator({}, {.requests_per_second = 1e9});
  // Events that are kept for the next session would be descriptors left behind.
  daemon::FlowTable flows(&kernel, &admission, &binaries, &tasks, absl::ZeroDuration());
  daemon::SessionTable sessions;
  daemon::ProfilerService service(&kernel, &admission, &binaries, &sessions, &tasks, &flows, &audit,
                                  &authenticator, {}, false);
  auto server =
      daemon::Server::Listen(socket, daemon::kEverybody, &service, nullptr, &authenticator);
  ASSERT_TRUE(server.ok()) << server.status();
  const size_t before = OpenDescriptors();
  EXPECT_EQ(users.Run(), (std::vector<int>{0, 0, 0}));
  EXPECT_TRUE(sessions.List("").empty());
  // gRPC closes connections some time after their clients are gone.
  const absl::Time end = absl::Now() + kPatience;
  while (OpenDescriptors() > before && absl::Now() < end) absl::SleepFor(absl::Milliseconds(50));
  EXPECT_LE(OpenDescriptors(), before);
  (*server)->Shutdown(absl::Now() + absl::Seconds(5));
}

}  // namespace
}  // namespace lbrd

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (geteuid() != 0) {
    std::printf("SKIPPED: other users can be had as root only\n");
    return 77;
  }
  // Each test in a process of its own: gRPC, once it has run, does not survive the forks of the
  // next.
  int failed = 0;
  for (const char* test : {"*EachRpc*", "*TenThousand*"}) {
    const pid_t pid = fork();
    if (pid == 0) {
      testing::GTEST_FLAG(filter) = test;
      return RUN_ALL_TESTS();
    }
    int status = 0;
    failed |= waitpid(pid, &status, 0) == pid && status == 0 ? 0 : 1;
  }
  return failed;
}
