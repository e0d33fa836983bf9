// Reading JavaScript values without trusting them. Every reader names the property
// it failed on; an exception thrown by a getter is taken off and reported.
#pragma once
#define NAPI_VERSION 8
#include <node_api.h>

#include <vector>

#include "spec.h"

namespace quetzal::js {

Status property(napi_env env, napi_value object, const char* name, napi_value& value);
/// A whole number within +-2^53.
Status integer(napi_env env, napi_value object, const char* name, int64_t& value);
Status string(napi_env env, napi_value object, const char* name, std::string& value);

/// The first `most` entries of a typed array.
Status int32s(napi_env env, napi_value object, const char* name, int64_t most,
              std::vector<int32_t>& values);
Status float32s(napi_env env, napi_value object, const char* name, int64_t most,
                std::vector<float>& values);

/// Memory of a typed array, valid until JavaScript runs again.
Status floatView(napi_env env, napi_value value, const char* name, float*& data, size_t& length);

/// All entries: what `most` is when no count applies.
constexpr int64_t all = int64_t{1} << 40;

Status modelSpec(napi_env env, napi_value object, ModelSpec& spec);
Status stepInput(napi_env env, napi_value object, StepInput& input);

napi_value error(napi_env env, const std::string& message);

/// Takes off what a refused call left pending: with it, no promise can be rejected.
void dropException(napi_env env);

}  // namespace quetzal::js
