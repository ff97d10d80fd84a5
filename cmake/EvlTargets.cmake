# evl::evl and evl::evl_static for projects that take evl in by add_subdirectory or FetchContent. The installed package
# makes the same targets from evlTargets.cmake.in.

if(EVL_BUILD_SHARED)
  add_library(evl::evl SHARED IMPORTED GLOBAL)
  set_target_properties(evl::evl PROPERTIES
    IMPORTED_LOCATION "${evl_output_dir}/libevl.so.${PROJECT_VERSION}"
    IMPORTED_SONAME "${evl_soname}"
    INTERFACE_INCLUDE_DIRECTORIES "${evl_include_dir}")
  add_dependencies(evl::evl evl_cargo_shared)
endif()

if(EVL_BUILD_STATIC)
  add_library(evl::evl_static STATIC IMPORTED GLOBAL)
  set_target_properties(evl::evl_static PROPERTIES
    IMPORTED_LOCATION "${evl_output_dir}/libevl.a"
    INTERFACE_INCLUDE_DIRECTORIES "${evl_include_dir}"
    INTERFACE_LINK_LIBRARIES "${evl_static_dependencies}")
  add_dependencies(evl::evl_static evl_cargo_static)
endif()

if(NOT EVL_BUILD_SHARED)
  add_library(evl::evl INTERFACE IMPORTED GLOBAL)
  set_target_properties(evl::evl PROPERTIES INTERFACE_LINK_LIBRARIES evl::evl_static)
  add_dependencies(evl::evl evl_cargo_static)
endif()
