#include "daemon/process_status.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

namespace lbrd::daemon {
namespace {

TEST(ProcessStatusTest, IsReadAsTheKernelWritesIt) {
  const ProcessStatus status = ParseProcessStatus(
      "Name:\tUid: 7\nUmask:\t0022\nUid:\t1000\t1001\t1002\t1003\nGid:\t5\t6\t7\t8\n"
      "NSpid:\t4711\t17\nCapPrm:\t000001ffffffffff\n");
  ASSERT_TRUE(status.users.has_value());
  EXPECT_EQ(status.users->real, 1000u);
  EXPECT_EQ(status.users->effective, 1001u);
  EXPECT_EQ(status.users->saved, 1002u);
  EXPECT_EQ(status.users->file_system, 1003u);
  EXPECT_EQ(status.namespaced_pid, 17);
  EXPECT_EQ(status.permitted_capabilities, 0x1ff'ffff'ffffu);
}

TEST(ProcessStatusTest, WhatIsMissingOrMalformedIsNone) {
  for (const char* text :
       {"", "\n\n", "Uid:\n", "Uid:\t1\t2\t3\n", "Uid:\t1\t2\t3\tx\n", "Uid:\t1\t2\t3\t4\t5\n",
        "Uid:\t-1\t2\t3\t4\n", "NSpid:\n", "NSpid:\tx\n", "CapPrm:\tzz\n", "XUid:\t1\t2\t3\t4\n"}) {
    const ProcessStatus status = ParseProcessStatus(text);
    EXPECT_FALSE(status.users.has_value()) << text;
    EXPECT_FALSE(status.namespaced_pid.has_value()) << text;
    EXPECT_FALSE(status.permitted_capabilities.has_value()) << text;
  }
}

TEST(ProcessStatusTest, AllFourUsersCount) {
  const ProcessUsers own{7, 7, 7, 7};
  EXPECT_TRUE(own.AllAre(7));
  for (uint32_t ProcessUsers::*const one : {&ProcessUsers::real, &ProcessUsers::effective,
                                            &ProcessUsers::saved, &ProcessUsers::file_system}) {
    ProcessUsers users = own;
    users.*one = 0;
    EXPECT_FALSE(users.AllAre(7));
  }
}

TEST(ProcessStatusTest, SaysOfThisProcessWhatTheKernelSays) {
  std::ifstream file("/proc/self/status");
  std::stringstream text;
  text << file.rdbuf();
  const ProcessStatus status = ParseProcessStatus(text.str());
  ASSERT_TRUE(status.users.has_value());
  EXPECT_EQ(status.users->real, getuid());
  EXPECT_EQ(status.users->effective, geteuid());
  EXPECT_EQ(status.namespaced_pid, getpid());
  EXPECT_TRUE(status.permitted_capabilities.has_value());
}

}  // namespace
}  // namespace lbrd::daemon
