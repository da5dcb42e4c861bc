// Whether anybody asks the daemon for anything, for who lets it end when idle.
//
// Thread rules: thread-safe.
#pragma once

#include <grpcpp/server.h>

#include <atomic>
#include <cstdint>

namespace lbrd::daemon {

// One a process, and it stays: gRPC keeps a pointer to it.
class RequestActivity final : public grpc::Server::GlobalCallbacks {
 public:
  // Before the first server is made.
  static RequestActivity& Install() {
    static auto* const activity = [] {
      auto* made = new RequestActivity;
      grpc::Server::SetGlobalCallbacks(made);
      return made;
    }();
    return *activity;
  }

  // Requests, streams among them, that are being answered.
  uint64_t open() const { return begun_ - ended_; }
  // All that were begun.
  uint64_t begun() const { return begun_; }

  void PreSynchronousRequest(grpc::ServerContext*) override { ++begun_; }
  void PostSynchronousRequest(grpc::ServerContext*) override { ++ended_; }

 private:
  std::atomic<uint64_t> begun_ = 0;
  std::atomic<uint64_t> ended_ = 0;
};

}  // namespace lbrd::daemon
