# What `cmake --install` puts into a prefix. Nothing in it names the prefix: it can be moved.
include(CMakePackageConfigHelpers)

install(FILES "${evl_include_dir}/evl.h" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" COMPONENT evl_development)
foreach(adapter IN LISTS evl_adapters)
  install(FILES "${evl_include_dir}/evl/${adapter}" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/evl" COMPONENT evl_development)
endforeach()

if(EVL_BUILD_SHARED)
  install(FILES "${evl_output_dir}/libevl.so.${PROJECT_VERSION}" "${evl_output_dir}/${evl_soname}"
    DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT evl_runtime)
  install(FILES "${evl_output_dir}/libevl.so" DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT evl_development)
  if(EVL_STRIP AND CMAKE_STRIP)
    install(CODE "
      set(library \"${CMAKE_INSTALL_LIBDIR}/libevl.so.${PROJECT_VERSION}\")
      if(NOT IS_ABSOLUTE \"\${library}\")
        set(library \"\${CMAKE_INSTALL_PREFIX}/\${library}\")
      endif()
      execute_process(COMMAND \"${CMAKE_STRIP}\" --strip-unneeded \"\$ENV{DESTDIR}\${library}\")"
      COMPONENT evl_runtime)
  endif()
endif()
if(EVL_BUILD_STATIC)
  install(FILES "${evl_output_dir}/libevl.a" DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT evl_development)
endif()

# CMake's package.
set(evl_cmake_dir "${CMAKE_INSTALL_LIBDIR}/cmake/evl")
set(PACKAGE_INCLUDEDIR "${CMAKE_INSTALL_INCLUDEDIR}")
set(PACKAGE_LIBDIR "${CMAKE_INSTALL_LIBDIR}")
configure_package_config_file(cmake/evlConfig.cmake.in evlConfig.cmake
  INSTALL_DESTINATION "${evl_cmake_dir}"
  NO_SET_AND_CHECK_MACRO)
configure_package_config_file(cmake/evlTargets.cmake.in evlTargets.cmake
  INSTALL_DESTINATION "${evl_cmake_dir}"
  PATH_VARS PACKAGE_INCLUDEDIR PACKAGE_LIBDIR
  NO_SET_AND_CHECK_MACRO NO_CHECK_REQUIRED_COMPONENTS_MACRO)
# As the SONAME says: compatible within a major version.
write_basic_package_version_file("${CMAKE_CURRENT_BINARY_DIR}/evlConfigVersion.cmake" COMPATIBILITY SameMajorVersion)
install(FILES
    "${CMAKE_CURRENT_BINARY_DIR}/evlConfig.cmake"
    "${CMAKE_CURRENT_BINARY_DIR}/evlConfigVersion.cmake"
    "${CMAKE_CURRENT_BINARY_DIR}/evlTargets.cmake"
  DESTINATION "${evl_cmake_dir}" COMPONENT evl_development)

# pkg-config's, its paths relative to where the file lies.
set(pc_dir "${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig")
file(RELATIVE_PATH pc_prefix "${pc_dir}" "${CMAKE_INSTALL_PREFIX}")
file(RELATIVE_PATH pc_libdir "${CMAKE_INSTALL_PREFIX}" "${CMAKE_INSTALL_FULL_LIBDIR}")
file(RELATIVE_PATH pc_includedir "${CMAKE_INSTALL_PREFIX}" "${CMAKE_INSTALL_FULL_INCLUDEDIR}")
string(REGEX REPLACE "/$" "" pc_prefix "${pc_prefix}")
list(TRANSFORM evl_static_dependencies PREPEND "-l" OUTPUT_VARIABLE pc_libs_private)
list(JOIN pc_libs_private " " pc_libs_private)
if(EVL_BUILD_SHARED)
  set(pc_libs "")
else()
  set(pc_libs " ${pc_libs_private}")
endif()
configure_file(cmake/evl.pc.in evl.pc @ONLY)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/evl.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig" COMPONENT evl_development)
